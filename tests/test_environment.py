"""The tests give the same result on every machine, whatever its owner has in the shell or in `.env`."""

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from chatsite.settings import BASE_DIR


def test_what_a_developer_has_set_does_not_reach_the_tests(tmp_path: Path) -> None:
    own = tmp_path / ".env"
    own.write_text("STREAM_LEASE_S=would not start\n")
    shell = {"ENV_FILE": str(own), "DATABASE_URL": "would not start", "DJANGO_SETTINGS_MODULE": "nosuch"}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=os.environ | shell, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_know_no_model_server_and_no_redis() -> None:
    assert (settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL, settings.LLM_MODELS) == ("", "", ["demo"])
    assert settings.REDIS_URL == ""
