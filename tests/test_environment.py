"""The tests give the same result on every machine, whatever its owner has in the shell or in `.env`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from channels.layers import BaseChannelLayer
from django.conf import settings
from django.db import connection

from chatsite.settings import BASE_DIR
from streaming.layers import LocalChannelLayer
from streaming.redis_layer import RedisChannelLayer


def test_what_a_developer_has_set_does_not_reach_the_tests(tmp_path: Path) -> None:
    own = tmp_path / ".env"
    own.write_text("STREAM_LEASE_S=would not start\n")
    shell = {"ENV_FILE": str(own), "DATABASE_URL": "would not start", "DJANGO_SETTINGS_MODULE": "nosuch"}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=os.environ | shell, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_know_no_model_server() -> None:
    assert (settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL, settings.LLM_MODELS) == ("", "", ["demo"])


@pytest.mark.embedded
def test_the_embedded_column_is_one_process_with_a_file(layer: BaseChannelLayer) -> None:
    assert (connection.vendor, type(layer), settings.STREAM_ENGINE) == ("sqlite", LocalChannelLayer, "process")


@pytest.mark.scaled
def test_the_scaled_column_is_postgresql_redis_and_workers(layer: BaseChannelLayer) -> None:
    assert (connection.vendor, type(layer), settings.STREAM_ENGINE) == ("postgresql", RedisChannelLayer, "worker")


def test_a_column_that_there_is_not_is_refused() -> None:
    command = [sys.executable, "-c", "import tests.columns"]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=os.environ | {"COLUMN": "middle"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "COLUMN is 'middle'; it must be embedded or scaled" in done.stderr
