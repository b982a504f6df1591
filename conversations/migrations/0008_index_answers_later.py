"""Answers come into the index of their words by a chore (conversations/search.py), no longer in the commit of their end.

The indexes are made beside a running site, whose processes search without one from here until they are restarted. What
a migration that was cut off has left is made anew.
"""

from typing import Any

from django.db import migrations

WORDS = "USING gin (to_tsvector('simple', left(text, 100000)))"
INDEXES = {
    "stream_indexed_words": f"{WORDS} WHERE indexed_at IS NOT NULL",
    "stream_unindexed": "(finished_at) WHERE indexed_at IS NULL",
}
OLD = {"stream_words": WORDS}


def replace(schema_editor: Any, old: dict[str, str], new: dict[str, str]) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name, index in new.items():
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            schema_editor.execute(f"CREATE INDEX CONCURRENTLY {name} ON streaming_stream {index}")
        for name in old:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("conversations", "0007_support_role"),
        ("streaming", "0007_stream_indexed_at"),
    ]

    operations = [
        migrations.RunPython(
            lambda apps, schema_editor: replace(schema_editor, OLD, INDEXES),
            lambda apps, schema_editor: replace(schema_editor, INDEXES, OLD),
        )
    ]
