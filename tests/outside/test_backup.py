"""A backup made while an answer is written: the copy is whole, opens as a site of its own, and goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.columns import SCALED, store_of
from tests.follower import Follower
from tests.modelscript import expected_text
from tests.processes import Client, Server, directive

# Long enough for a backup on a busy machine; not waited for but where it is restored.
LONG = {"words": 400, "delay_s": 0.03}


def postgres(program: str, url: str, *arguments: str | Path) -> None:
    """One of PostgreSQL's programs, those that came with this server: others refuse to dump it."""
    with psycopg.connect(url) as connection:
        (folder,) = connection.execute("select setting from pg_config where name = 'BINDIR'").fetchone() or [""]
    subprocess.run([f"{folder}/{program}", *arguments], check=True)


def back_up(site: Server, file: Path) -> None:
    if SCALED:
        url = site.environment["DATABASE_URL"]
        postgres("pg_dump", url, "--format=custom", f"--file={file}", url)
    else:
        site.manage("backup", str(file))


def restore(file: Path, home: Path) -> None:
    url = store_of(home).environment["DATABASE_URL"]
    if SCALED:
        server, _, name = url.rpartition("/")
        postgres("createdb", f"{server}/postgres", f"--maintenance-db={server}/postgres", name)
        postgres("pg_restore", url, "--exit-on-error", f"--dbname={url}", file)
    else:
        file.rename(url.removeprefix("sqlite:///"))


@pytest.fixture
def elsewhere(tmp_path: Path, site: Server) -> Iterator[Server]:
    """A site of the same settings that has no data yet."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    other = Server(home, site.model_url, site.settings)
    try:
        yield other
    finally:
        if other.process is not None:
            other.stop()
            store_of(home).drop()


@pytest.mark.timeout(180)
async def test_a_backup_of_a_busy_site_opens_elsewhere_and_goes_on(
    client: Client, site: Server, elsewhere: Server, tmp_path: Path
) -> None:
    conversation = client.new_conversation()
    stream = client.ask(conversation, directive(**LONG))
    while not (known := client.stream(stream))["text"]:
        pass
    back_up(site, tmp_path / "backup")
    assert client.stream(stream)["status"] == "streaming"
    restore(tmp_path / "backup", elsewhere.home)
    elsewhere.start()
    with Client(elsewhere) as there:
        there.headers = client.headers
        there.http.headers.update(client.headers)
        assert there.text_at(stream, known["seq"]) == known["text"]
        there.http.post(f"/streams/{stream}/stop/").raise_for_status()
        follower = Follower()
        await there.follow(conversation, stream, follower)
    assert follower.streams[stream].status == "stopped"
    assert expected_text(LONG).startswith(follower.streams[stream].text)
