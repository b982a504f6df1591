from django.db import migrations, models

from streaming.concurrently import AddIndexConcurrently


class Migration(migrations.Migration):
    # The index is made beside a running site.
    atomic = False

    dependencies = [
        ("streaming", "0004_models_of_earlier_streams"),
    ]

    operations = [
        migrations.AddField(
            model_name="stream",
            name="compacted_at",
            field=models.DateTimeField(editable=False, help_text="Since then its log is in few rows.", null=True),
        ),
        AddIndexConcurrently(
            model_name="stream",
            index=models.Index(
                condition=models.Q(("compacted_at", None)), fields=["finished_at"], name="stream_uncompacted"
            ),
        ),
    ]
