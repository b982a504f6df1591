"""Keeps a developer's environment out of the tests: nobody's key, database or proxy may reach or decide them.

A plugin of pytest (pyproject.toml), because the settings are parsed before any conftest.py. It changes the environment
itself, so that the servers which tests start inherit it.
"""

import os
import re
import tempfile
from pathlib import Path

SETTINGS = Path(__file__).resolve().parent.parent / "chatsite/settings.py"

# What the site reads, and what its libraries would read behind its back.
read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', SETTINGS.read_text())) | {"DJANGO_SETTINGS_MODULE"}
for name in list(os.environ):
    if name in read or name.startswith("OPENAI_"):
        del os.environ[name]
os.environ["ENV_FILE"] = os.devnull
# The test database is made beside this one, which is never made: a place of its own lets two runs go on at once.
home = tempfile.TemporaryDirectory(prefix="chatsite-tests-")
os.environ["DATABASE_URL"] = f"sqlite:///{home.name}/site.sqlite3"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def pytest_unconfigure() -> None:
    """Delete what SQLite leaves beside the test database, too."""
    home.cleanup()
