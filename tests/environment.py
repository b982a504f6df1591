"""Keeps a developer's environment out of the tests: nobody's key, database or proxy may reach or decide them.

A plugin of pytest (pyproject.toml), because the settings are parsed before any conftest.py. It changes the environment
itself, so that the servers which tests start inherit it.
"""

import os
import re
import signal
from pathlib import Path

from tests import columns

SETTINGS = Path(__file__).resolve().parent.parent / "chatsite/settings.py"

# What the site reads, and what its libraries would read behind its back.
read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', SETTINGS.read_text())) | {"DJANGO_SETTINGS_MODULE"}
for name in list(os.environ):
    if name in read or name.startswith("OPENAI_"):
        del os.environ[name]
os.environ["ENV_FILE"] = os.devnull
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
# A shell without job control has what it starts in the background ignore Ctrl-C, and all that those start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
columns.begin()


def pytest_unconfigure() -> None:
    columns.end()
