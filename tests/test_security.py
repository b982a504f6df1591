"""What docs/security.md says of the site: its settings, headers, secrets and addresses, and that its tests exist."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from django.test import Client
from pytest_django import Settings

from chatsite.settings import BASE_DIR
from conversations.models import Conversation, User
from streaming.models import Chunk, Stream
from streaming.openai_provider import OpenAIProvider
from tests.audit import audit
from tests.conftest import ended, engine_with, stream_of
from tests.modelserver import ModelServer, Script
from tests.test_promises import NAMED, names_of_tests

pytestmark = pytest.mark.django_db(transaction=True)
DOC = (BASE_DIR / "docs/security.md").read_text()
MARKER = "sk-marker-7f3a9c"
PAGES = ("/", "/login/", "/signup/", "/admin/login/", "/api/docs/", "/nowhere/")
FAULTS: list[dict[str, Any]] = [
    {"status": 401, "error_code": MARKER},
    {"status": 400, "error_code": MARKER},
    {"status": 500},
    {"cut_after": 0},
    {"garbage_after": 0},
    {"error_after": 0},
]


# ------------------------------------------------------------------------------------------------ the document


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED.findall(DOC)}))
def test_every_test_that_is_named_exists(file: str) -> None:
    assert {name for path, name in NAMED.findall(DOC) if path == file} - names_of_tests(BASE_DIR / file) == set()


def test_every_attack_has_a_test() -> None:
    rows = [line for line in DOC.split("\n") if line.startswith("| ")]
    attacks = [row for row in rows if row.count(" | ") == 2 and not row.startswith(("| ---", "| Attack"))]
    assert len(attacks) > 25
    assert [row for row in attacks if not NAMED.search(row)] == []


# ------------------------------------------------------------------------------------------------ production settings


def production() -> dict[str, str]:
    """The variables that docs/operations.md gives a site over HTTPS."""
    (block,) = re.findall(r"```sh\n(ALLOWED_HOSTS=.*?)```", (BASE_DIR / "docs/operations.md").read_text(), re.DOTALL)
    found = dict(line.split("=", 1) for line in block.splitlines())
    return found | {"SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOP"}


def test_djangos_check_of_a_deployment_finds_nothing_in_the_documented_settings() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "DEBUG"],
        cwd=BASE_DIR,
        env=os.environ | production(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "no issues (2 silenced)" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_what_it_may_load_and_who_may_frame_it(path: str) -> None:
    answer = Client().get(path)
    policy = dict(rule.partition(" ")[::2] for rule in answer["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'" and not {"script-src", "style-src"} & set(policy)
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert (answer["X-Frame-Options"], answer["X-Content-Type-Options"]) == ("DENY", "nosniff")
    assert (answer["Referrer-Policy"], answer["Cross-Origin-Opener-Policy"]) == ("same-origin", "same-origin")


def test_browsers_are_sent_to_https_and_told_to_stay_there(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 31_536_000
    there = Client().get("/login/")
    assert (there.status_code, there["Location"]) == (301, "https://testserver/login/")
    assert Client().get("/login/", secure=True)["Strict-Transport-Security"] == "max-age=31536000"
    assert Client().get("/healthz").status_code == 200


def test_cookies_travel_over_https_only_and_scripts_cannot_read_the_session(settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    browser = Client()
    browser.get("/login/", secure=True)
    browser.post("/visitor/", secure=True)
    session, csrf = browser.cookies["sessionid"], browser.cookies["csrftoken"]
    assert session["secure"] and csrf["secure"] and session["httponly"]
    assert session["samesite"] == csrf["samesite"] == "Lax"


@pytest.mark.parametrize("path", ["/", "/login/", "/signup/", "/visitor/", "/admin/login/"])
def test_no_form_is_taken_without_its_token(path: str, alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert browser.post(path, {"text": "Why?"}).status_code == 403


# ------------------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: next(iter(fault)))
async def test_the_key_is_found_nowhere_whatever_the_models_server_does(
    fault: dict[str, Any], conversation: Conversation, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    caplog.set_level(logging.INFO)
    settings.STREAM_ATTEMPTS, settings.STREAM_BACKOFF_S, settings.OPENAI_API_KEY = 2, 0, MARKER
    async with ModelServer() as server, engine_with(OpenAIProvider(server.url, MARKER)):
        for _ in range(2):
            server.script(Script(**fault))
        reply = await sync_to_async(conversation.ask)("Hi")
        stream = await ended(stream_of(reply))
    assert server.requests[0].authorization == f"Bearer {MARKER}", "it was there to be lost"
    assert stream.status == "error"
    assert MARKER not in caplog.text + await sync_to_async(shown)(stream)


def shown(stream: Stream) -> str:
    """All that is stored of a stream, and all that its owner and an administrator get to see of it."""
    owner, root = Client(), Client()
    owner.force_login(User.objects.get(username="alice"))
    root.force_login(User.objects.create_superuser("root"))
    conversation = Conversation.objects.get()
    pages = [
        owner.get(f"/c/{conversation.pk}/"),
        owner.get(f"/api/streams/{stream.pk}/"),
        owner.get(f"/api/streams/{stream.pk}/chunks/"),
        root.get(f"/admin/streaming/stream/{stream.pk}/change/?text=shown"),
        root.get("/admin/streaming/chunk/"),
    ]
    assert {page.status_code for page in pages} == {200}
    stored = [*Stream.objects.values(), *Chunk.objects.values()]
    return " ".join([*(page.content.decode() for page in pages), *map(str, stored)])


# ------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize("name", ["base_url", "api_base", "url", "OPENAI_BASE_URL"])
def test_nobody_who_asks_can_name_a_models_server(
    name: str, alice: User, alices_token: str, conversation: Conversation
) -> None:
    client = Client(headers={"Authorization": f"Bearer {alices_token}"})
    there = {name: "http://169.254.169.254/"}
    messages = [{"role": "user", "content": "Hi"}]
    for path, body in (
        ("/api/conversations/", {}),
        (f"/api/conversations/{conversation.pk}/messages/", {"text": "Hi"}),
        ("/v1/responses", {"model": "demo", "input": "Hi"}),
        ("/v1/chat/completions", {"model": "demo", "messages": messages}),
    ):
        assert client.post(path, body | there, "application/json").status_code == 400, path
    assert not Stream.objects.exists()


async def test_an_address_in_a_prompt_or_an_answer_is_asked_by_nobody(conversation: Conversation) -> None:
    async with ModelServer() as model, ModelServer() as elsewhere:
        async with engine_with(OpenAIProvider(model.url, "key")):
            text = f"![picture]({elsewhere.url}/p.png) <{elsewhere.url}>"
            reply = await sync_to_async(conversation.ask)(json.dumps({"text": text}))
            assert (await ended(stream_of(reply))).text == text
        await sync_to_async(shown)(await Stream.objects.aget())
        assert len(model.requests) == 1 and elsewhere.requests == []


async def test_a_models_server_cannot_send_the_site_elsewhere(conversation: Conversation, settings: Settings) -> None:
    settings.STREAM_ATTEMPTS = 1
    async with ModelServer() as inside:

        async def redirect(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"{inside.url}/chat/completions")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", redirect)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with engine_with(OpenAIProvider(f"http://127.0.0.1:{port}/v1", "key")):
            reply = await sync_to_async(conversation.ask)("Hi")
            stream = await ended(stream_of(reply))
        await runner.cleanup()
        assert (stream.status, inside.requests) == ("error", [])


# ------------------------------------------------------------------------------------------------ the audit


def test_an_audit_that_cannot_ask_says_so_and_fails_nothing() -> None:
    assert audit(timeout_s=0.01) == (0, "audit: NOT DONE, the database of vulnerabilities could not be asked")


def test_an_audit_that_finds_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.dumps({"dependencies": [{"name": "daphne", "version": "1", "vulns": [{"id": "PYSEC-1"}]}]})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, found, ""))
    status, said = audit()
    assert (status, "daphne 1: PYSEC-1" in said) == (1, True)
