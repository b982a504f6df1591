from typing import Any

from django.db import migrations

SUPPORT = "Support"
MAY_LOOK_AT = ("stream", "chunk")


def make(apps: Any, schema_editor: Any) -> None:
    """A group whose members may look at streams: they stop nothing and see nothing that people wrote.

    Django makes permissions only after all migrations; the ones that are there by then it leaves alone.
    """
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=SUPPORT)
    for model in MAY_LOOK_AT:
        kinds = apps.get_model("contenttypes", "ContentType").objects
        kind, _ = kinds.get_or_create(app_label="streaming", model=model)
        named = {"codename": f"view_{model}", "content_type": kind}
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            **named, defaults={"name": f"Can view {model}"}
        )
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("conversations", "0006_budget"),
    ]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
