"""The examples of the documentation, for the tests that run them."""

from __future__ import annotations

import re

from tests.columns import ROOT


def example(language: str, name: str, page: str = "clients.md") -> str:
    """The one code block that is marked with this language and name."""
    text = (ROOT / "docs" / page).read_text()
    (found,) = re.findall(rf"^```{language} {name}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)
