"""What the tests of pages and API share: the owner's browser, and throttles that remember nothing."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from conversations.models import User


@pytest.fixture(autouse=True)
def _no_earlier_tries() -> None:
    cache.clear()


@pytest.fixture
def at_alices(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client
