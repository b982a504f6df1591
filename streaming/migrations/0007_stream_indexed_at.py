from typing import Any

from django.db import migrations, models


class AddIndexedAt(migrations.AddField):
    """On PostgreSQL what is there was indexed as it ended. A default says so for all of it without writing a row."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute("ALTER TABLE streaming_stream ADD COLUMN indexed_at timestamptz DEFAULT now()")
            schema_editor.execute("ALTER TABLE streaming_stream ALTER COLUMN indexed_at DROP DEFAULT")
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):

    dependencies = [
        ("streaming", "0006_process"),
    ]

    operations = [
        AddIndexedAt(
            model_name="stream",
            name="indexed_at",
            field=models.DateTimeField(
                editable=False, help_text="Since then searches have an index of its words.", null=True
            ),
        ),
    ]
