from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("conversations", "0002_branches"),
    ]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="deleted_at",
            field=models.DateTimeField(editable=False, help_text="Removed for good UNDO_S later.", null=True),
        ),
        migrations.AddField(
            model_name="conversation",
            name="share",
            field=models.CharField(editable=False, max_length=43, null=True, unique=True),
        ),
    ]
