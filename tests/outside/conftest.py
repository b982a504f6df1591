"""A site and a model server shared by the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Client, Server, model_server, server


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with model_server(for_s=900) as url:
        yield url


@pytest.fixture
def site(tmp_path: Path, model_url: str) -> Iterator[Server]:
    with server(tmp_path, model_url) as site:
        yield site


@pytest.fixture
def client(site: Server) -> Iterator[Client]:
    with Client(site) as client:
        yield client
