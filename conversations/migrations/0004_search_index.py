"""The indexes of conversations/search.py, whose expression they must have. SQLite searches without."""

from typing import Any

from django.db import migrations

EXPRESSION = "to_tsvector('simple', left(text, 100000))"
INDEXES = {"message_words": "conversations_message", "stream_words": "streaming_stream"}


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name, table in INDEXES.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {table} USING gin ({EXPRESSION})")


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name in INDEXES:
            schema_editor.execute(f"DROP INDEX {name}")


class Migration(migrations.Migration):

    dependencies = [
        ("conversations", "0003_share_and_deleted_at"),
        ("streaming", "0001_initial"),
    ]

    operations = [migrations.RunPython(create, drop)]
