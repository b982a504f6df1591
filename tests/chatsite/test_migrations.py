"""Migrations run while the site does: none may lock a big table for long, or break processes of the version before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.models.functions import Now, Random

from streaming.concurrently import AddIndexConcurrently

BIG = {"stream", "chunk", "message", "conversation", "user"}
# From before there was a site to keep running.
EARLIER = {
    ("streaming", "0001_initial"),
    ("streaming", "0002_fed"),
    *(("conversations", name) for name in ("0001_initial", "0002_branches", "0003_share_and_deleted_at")),
    ("conversations", "0005_message_context"),
}


def wrong(operation: Operation, *, atomic: bool) -> str:
    """Why this operation must not meet a running site; empty if it may."""
    model = str(getattr(operation, "model_name", getattr(operation, "name", ""))).lower()
    match operation:
        case _ if model not in BIG:
            return ""
        case AddIndexConcurrently():
            return "an index cannot be made concurrently inside a transaction: atomic = False" if atomic else ""
        case migrations.AddIndex():
            return "nobody can write while the index is made: use AddIndexConcurrently"
        case migrations.AddField(field=field):
            constant = field.has_db_default() and isinstance(field.db_default, str | bool | int | models.Value | Now)
            if field.unique or not (field.null or constant or field.many_to_many):
                return "the version before cannot insert rows, or each row is rewritten: null, or a constant db_default"
        case migrations.AddConstraint():
            return "every row is checked while nobody can write"
        case migrations.AlterField() | migrations.RemoveField() | migrations.RenameField():
            return "the version before still uses the column as it was"
        case migrations.RenameModel() | migrations.DeleteModel():
            return "the version before still uses the table"
    return ""


def newer() -> Iterator[migrations.Migration]:
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app in ("streaming", "conversations") and (app, name) not in EARLIER:
            yield migration


def test_no_migration_locks_out_a_running_site() -> None:
    found = list(newer())
    assert [
        f"{migration}: {operation.describe()}: {why}"
        for migration in found
        for operation in migration.operations
        if (why := wrong(operation, atomic=migration.atomic))
    ] == []
    assert any(isinstance(operation, AddIndexConcurrently) for each in found for operation in each.operations)


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddIndex("chunk", models.Index(fields=["kind"], name="slow")),
        AddIndexConcurrently("chunk", models.Index(fields=["kind"], name="quick")),
        migrations.AddField("Stream", "new", models.TextField(default="")),
        migrations.AddField("stream", "new", models.FloatField(db_default=Random())),
        migrations.AddField("message", "new", models.TextField(null=True, unique=True)),
        migrations.AlterField("message", "text", models.CharField(max_length=10)),
        migrations.RemoveField("message", "text"),
        migrations.AddConstraint("stream", models.CheckConstraint(condition=models.Q(seq__gt=0), name="positive")),
        migrations.DeleteModel("Chunk"),
    ],
    ids=lambda operation: operation.describe(),
)
def test_what_would_is_seen(operation: Operation) -> None:
    assert wrong(operation, atomic=True)


@pytest.mark.parametrize(
    ("operation", "atomic"),
    [
        (AddIndexConcurrently("chunk", models.Index(fields=["kind"], name="quick")), False),
        (migrations.AddField("stream", "new", models.TextField(db_default="")), True),
        (migrations.AddField("stream", "new", models.DateTimeField(db_default=Now())), True),
        (migrations.AddField("stream", "new", models.TextField(null=True)), True),
        (migrations.AddIndex("process", models.Index(fields=["kind"], name="small")), True),
    ],
    ids=str,
)
def test_what_would_not_may_pass(operation: Operation, *, atomic: bool) -> None:
    assert not wrong(operation, atomic=atomic)
