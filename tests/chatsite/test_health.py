"""What load balancers ask: is the process alive, and is everything there that it needs to serve?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.db.migrations.recorder import MigrationRecorder
from django.test import AsyncClient

from chatsite import health
from tests.conftest import engine_with, until, worker_with
from tests.scripted import ScriptedProvider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hub_stopped")]


@pytest.fixture(autouse=True)
def _generates_itself(settings: Any) -> None:
    settings.STREAM_ENGINE = "process"


async def readiness(client: AsyncClient) -> tuple[int, dict[str, str]]:
    response = await client.get("/readyz")
    return response.status_code, response.json()["checks"]


async def test_a_process_is_alive_whatever_it_lacks(async_client: AsyncClient) -> None:
    response = await async_client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_site_is_ready_when_its_database_layer_and_engine_are_there(async_client: AsyncClient) -> None:
    async with engine_with(ScriptedProvider([])):
        response = await async_client.get("/readyz")
    assert response.status_code == 200
    checks = {"database": "ok", "migrations": "ok", "layer": "ok", "engine": "ok"}
    assert response.json() == {"status": "ok", "checks": checks}


async def test_without_an_engine_it_is_not_ready(async_client: AsyncClient) -> None:
    status, checks = await readiness(async_client)
    assert (status, checks["engine"]) == (503, "this process does not generate")


async def test_it_says_what_is_away_and_gives_no_secret_away(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> None:
        raise ConnectionError("redis://user:password@10.0.0.1 refuses")

    monkeypatch.setattr(get_channel_layer(), "group_send_all", away)
    status, checks = await readiness(async_client)
    assert (status, checks["layer"], checks["database"]) == (503, "unavailable", "ok")


async def test_what_hangs_is_given_up(async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*args: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "CHECK_S", 0.05)
    monkeypatch.setattr(get_channel_layer(), "group_send_all", hang)
    assert (await readiness(async_client))[1]["layer"] == "no answer within 0.05 seconds"


async def test_migrations_to_apply_are_told(async_client: AsyncClient) -> None:
    applied = MigrationRecorder.Migration.objects
    newest = await applied.alatest("id")
    await newest.adelete()
    try:
        status, checks = await readiness(async_client)
    finally:
        await newest.asave(force_insert=True)
    assert (status, "run migrate" in checks["migrations"]) == (503, True)


@pytest.mark.scaled
async def test_where_workers_generate_one_must_be_alive(async_client: AsyncClient, settings: Any) -> None:
    settings.STREAM_ENGINE = "worker"
    assert (await readiness(async_client))[1]["engine"] == "no worker is alive"
    async with worker_with(ScriptedProvider([])):
        await until(lambda: is_ready(async_client))


async def is_ready(client: AsyncClient) -> bool:
    return (await readiness(client))[0] == 200
