"""What `manage.py backup` refuses; tests/outside/test_backup.py restores what it makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.embedded
@pytest.mark.django_db
def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("precious")
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(file))
    assert file.read_text() == "precious"


@pytest.mark.scaled
def test_postgresql_is_left_to_its_own_program(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="pg_dump"):
        call_command("backup", str(tmp_path / "backup"))
