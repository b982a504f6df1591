from typing import Any

from django.db import migrations
from django.db.models import Q
from django.db.models.fields.json import KT

BATCH = 500


def fill(apps: Any, schema_editor: Any) -> None:
    """A few rows at a time, each batch a transaction of its own: answers under way wait for no long lock."""
    streams = apps.get_model("streaming", "Stream").objects.using(schema_editor.connection.alias)
    unnamed = streams.filter(model="", request__model__isnull=False).order_by()
    unnamed = unnamed.exclude(Q(request__model="") | Q(request__model=None))
    while found := list(unnamed.values_list("pk", flat=True)[:BATCH]):
        streams.filter(pk__in=found).update(model=KT("request__model"))


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("streaming", "0003_stream_model")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
