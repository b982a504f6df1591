"""The JSON API: who may do what, what the answers look like, and that asking twice asks once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.db import close_old_connections, connections
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from conversations.api import aisdk, durable, openai, urls
from conversations.models import Conversation, Message, Token, User
from streaming import engine
from streaming.frames import Row
from streaming.models import Chunk, Entry, Stream
from tests.conftest import add, finish

pytestmark = pytest.mark.django_db
JSON = "application/json"


@pytest.fixture
def wakes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time the engine was woken."""
    settings.STREAM_ENGINE = "process"
    woken: list[None] = []
    monkeypatch.setattr(engine, "wake", lambda: woken.append(None))
    return woken


def bearer(secret: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {secret}"})


def messages_of(conversation: Conversation) -> str:
    return f"/api/conversations/{conversation.pk}/messages/"


def ask(client: Client, conversation: Conversation, text: str = "Hello?", key: str | None = None) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(messages_of(conversation), {"text": text}, content_type=JSON, headers=headers)


# ---------------------------------------------------------------------------------------------- who may do what


@dataclass(frozen=True)
class Access:
    """What one call of the API answers to the owner; to a stranger; and to nobody or somebody with a bad token."""

    method: str
    route: str
    owner: int
    stranger: int
    nobody: int = 401
    bad_token: int = 401
    body: str = "{}"
    session: bool = True  # Whether a browser's session is good for it.


ADDITION = '{"lease": "00000000-0000-0000-0000-000000000000", "after": 2, %s}'
AISDK_PROMPT = """
{"id": "<conversation>", "messages": [{"id": "new", "role": "user", "parts": [{"type": "text", "text": "More?"}]}]}
"""
OPENAI_PROMPT = '{"input": "More?", "previous_response_id": "<response>"}'
ACCESS = [
    Access("post", "visitors/", 201, 201, 201, 201),
    Access("get", "me/", 200, 200),
    Access("get", "tokens/", 200, 200),
    Access("post", "tokens/", 201, 201, body='{"name": "phone"}'),
    Access("delete", "tokens/<int:pk>/", 204, 404),
    Access("get", "conversations/", 200, 200),
    Access("post", "conversations/", 201, 201),
    Access("get", "conversations/<uuid:pk>/", 200, 404),
    Access("patch", "conversations/<uuid:pk>/", 200, 404, body='{"title": "New"}'),
    Access("delete", "conversations/<uuid:pk>/", 204, 404),
    Access("get", "conversations/<uuid:pk>/messages/", 200, 404),
    Access("post", "conversations/<uuid:pk>/messages/", 409, 404, body='{"text": "More?"}'),
    Access("delete", "conversations/<uuid:pk>/messages/", 204, 404),
    Access("post", "conversations/<uuid:pk>/share/", 200, 404),
    Access("delete", "conversations/<uuid:pk>/share/", 204, 404),
    Access("get", "conversations/<uuid:pk>/export/", 200, 404),
    Access("post", "messages/<uuid:pk>/regenerate/", 409, 404),
    Access("post", "messages/<uuid:pk>/edit/", 409, 404, body='{"text": "Else?"}'),
    Access("post", "messages/<uuid:pk>/choose/", 204, 404),
    Access("get", "streams/<uuid:pk>/", 200, 404),
    Access("get", "streams/<uuid:pk>/chunks/", 200, 404),
    Access("post", "streams/<uuid:pk>/stop/", 200, 404),
    Access("post", "conversations/<uuid:pk>/streams/", 409, 404, body='{"text": "More?"}'),
    Access("post", "streams/<uuid:pk>/chunks/", 409, 404, body=ADDITION % '"chunks": []'),
    Access("post", "streams/<uuid:pk>/end/", 409, 404, body=ADDITION % '"finish_reason": "stop"'),
    Access("get", "schema/", 200, 200, 200, 200),
    Access("get", "docs/", 200, 200, 200, 200),
    Access("get", "", 404, 404, 404, 404),
    Access("post", "/ai/chat", 409, 404, body=AISDK_PROMPT),
    Access("get", "/ai/chat/<str:chat>/stream", 200, 404),
    Access("post", "/ai/chat/<str:chat>/stop", 204, 404),
    Access("post", "/v1/responses", 409, 400, body=OPENAI_PROMPT, session=False),
    Access("get", "/v1/responses/<str:response>", 200, 404, session=False),
    Access("delete", "/v1/responses/<str:response>", 200, 404, session=False),
    Access("post", "/v1/chat/completions", 400, 400, session=False),
    Access("get", "/v1/models", 200, 200, session=False),
    Access("get", "/v1/models/<path:name>", 404, 404, session=False),
    Access("get", "/v1/", 404, 404, session=False),
]
SURFACES = {"ai/": aisdk, "durable/": durable, "v1/": openai}
# The tests of the readers, and of OpenAI's API, are theirs.
ASYNC = {"streams/<uuid:pk>/events/", "/durable/streams/<uuid:pk>", "/v1/responses/<str:response>/cancel"}
CALLS = pytest.mark.parametrize("call", ACCESS, ids=lambda call: f"{call.method} {call.route or 'anything else'}")


def test_every_route_of_the_api_is_in_the_access_table() -> None:
    routes = {str(pattern.pattern) for pattern in urls.urlpatterns}
    routes |= {f"/{prefix}{pattern.pattern}" for prefix, there in SURFACES.items() for pattern in there.urlpatterns}
    assert routes == {call.route for call in ACCESS} | ASYNC


def test_every_documented_operation_is_in_the_access_table(schema: dict[str, Any]) -> None:
    documented = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    tested = {(call.method, re.sub("<(uuid|int):pk>", "{id}", address(call))) for call in ACCESS}
    assert documented - tested == {("get", "/api/streams/{id}/events/")}


def address(call: Access) -> str:
    """Its route from the root: those of this API lie under /api/, those of other surfaces say where."""
    return call.route if call.route.startswith("/") else f"/api/{call.route}"


def send(client: Client, call: Access, stream: Stream) -> int:
    reply = Message.objects.get(stream=stream)
    targets: dict[str, Any] = {
        "streams": stream.pk,
        "messages": reply.parent_id,
        "conversations": reply.conversation_id,
    }
    if call.route == "tokens/<int:pk>/":
        Token.objects.issue(reply.conversation.owner, "another")
        targets["tokens"] = reply.conversation.owner.tokens.latest("pk").pk
    target = targets.get(call.route.split("/")[0])
    chat = str(reply.conversation_id)
    path = address(call).replace("<uuid:pk>", str(target)).replace("<int:pk>", str(target)).replace("<str:chat>", chat)
    path = path.replace("<str:response>", f"resp_{stream.pk.hex}")
    body = call.body.replace("<conversation>", chat).replace("<response>", f"resp_{stream.pk.hex}")
    return int(client.generic(call.method.upper(), path, body, content_type=JSON).status_code)


@CALLS
def test_the_owner_may(call: Access, running_stream: Stream, at_alices: Client) -> None:
    assert send(at_alices, call, running_stream) == (call.owner if call.session else 401)


@CALLS
def test_the_owners_token_may(call: Access, running_stream: Stream, alices_token: str) -> None:
    assert send(bearer(alices_token), call, running_stream) == call.owner


@CALLS
def test_a_stranger_may_not(call: Access, running_stream: Stream, bobs_token: str) -> None:
    assert send(bearer(bobs_token), call, running_stream) == call.stranger


@CALLS
def test_nobody_may_not(call: Access, running_stream: Stream) -> None:
    assert send(Client(), call, running_stream) == call.nobody


@CALLS
def test_an_administrator_may_no_more_than_any_stranger(call: Access, running_stream: Stream, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True, is_superuser=True)
    assert send(bearer(Token.objects.issue(bob)), call, running_stream) == call.stranger


@CALLS
def test_who_reads_a_shared_conversation_may_no_more_than_nobody(call: Access, running_stream: Stream) -> None:
    Conversation.objects.update(share="secret")
    assert send(bearer("secret"), call, running_stream) == call.bad_token
    assert send(Client(), call, running_stream) == call.nobody


@CALLS
def test_a_revoked_token_may_not(call: Access, running_stream: Stream, alices_token: str) -> None:
    Token.objects.all().delete()
    assert send(bearer(alices_token), call, running_stream) == call.bad_token


@CALLS
def test_a_bad_token_may_not_even_beside_a_good_session(call: Access, running_stream: Stream, alice: User) -> None:
    client = bearer("cs_wrong")
    client.force_login(alice)
    assert send(client, call, running_stream) == call.bad_token


@pytest.mark.parametrize("how", ["inactive", "revoked"])
def test_a_token_ends_with_its_user_or_row(how: str, alice: User, alices_token: str) -> None:
    if how == "inactive":
        User.objects.update(is_active=False)
    else:
        Token.objects.all().delete()
    response = bearer(alices_token).get("/api/me/")
    assert (response.status_code, response.json()["code"]) == (401, "bad_token")
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_session_needs_the_csrf_token_and_a_bearer_does_not(alice: User, alices_token: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    refused = browser.post("/api/conversations/", "{}", content_type=JSON)
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    program = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {alices_token}"})
    assert program.post("/api/conversations/", "{}", content_type=JSON).status_code == 201


def test_what_a_stranger_tries_changes_nothing(running_stream: Stream, bobs_token: str) -> None:
    for call in ACCESS:
        if "<uuid:pk>" in call.route:
            send(bearer(bobs_token), call, running_stream)
    assert Conversation.objects.get().messages.count() == 2
    assert Stream.objects.get().stop_requested_at is None


# ---------------------------------------------------------------------------------------------- people


def test_a_visitor_gets_a_token_that_works() -> None:
    response = Client().post("/api/visitors/")
    made = response.json()
    assert made["user"] == {"id": User.objects.get().pk, "name": "Visitor", "is_visitor": True}
    assert bearer(made["token"]).get("/api/me/").json() == made["user"]


def test_visitors_are_limited_by_address_and_told_how_long_to_wait(settings: Settings) -> None:
    settings.THROTTLE_VISITORS = "2/hour"
    statuses = [Client().post("/api/visitors/").status_code for _ in range(3)]
    assert statuses == [201, 201, 429]
    response = Client(headers={"X-Forwarded-For": "203.0.113.9"}).post("/api/visitors/")
    assert 0 < int(response["Retry-After"]) <= 3600
    assert response.json()["code"] == "throttled"
    assert Client(REMOTE_ADDR="203.0.113.9").post("/api/visitors/").status_code == 201


def test_the_addresses_of_one_ipv6_network_count_as_one(settings: Settings) -> None:
    settings.THROTTLE_VISITORS = "1/hour"
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    assert [Client(REMOTE_ADDR=each).post("/api/visitors/").status_code for each in addresses] == [201, 429, 201]


def test_an_empty_rate_is_no_limit(settings: Settings) -> None:
    settings.THROTTLE_VISITORS = ""
    assert {Client().post("/api/visitors/").status_code for _ in range(40)} == {201}


# ---------------------------------------------------------------------------------------------- conversations


def test_a_conversation_is_made_read_changed_and_listed(at_alices: Client, settings: Settings) -> None:
    settings.LLM_MODELS = ["small", "large"]
    made = at_alices.post("/api/conversations/", {"title": "Fish", "model": "large"}, content_type=JSON).json()
    path = f"/api/conversations/{made['id']}/"
    changed = at_alices.patch(path, {"system_prompt": "Be brief."}, content_type=JSON).json()
    assert changed == made | {"system_prompt": "Be brief."} == at_alices.get(path).json()
    assert at_alices.get("/api/conversations/").json()["results"] == [changed]
    assert datetime.fromisoformat(made["created_at"]).tzinfo is not None


def test_a_conversation_takes_its_streams_along_when_it_goes(running_stream: Stream, at_alices: Client) -> None:
    assert at_alices.delete(f"/api/conversations/{Conversation.objects.get().pk}/").status_code == 204
    assert not Stream.objects.exists() and not Chunk.objects.exists() and not Message.objects.exists()


def test_clearing_keeps_the_conversation_only(running_stream: Stream, at_alices: Client) -> None:
    assert at_alices.delete(messages_of(Conversation.objects.get())).status_code == 204
    assert Conversation.objects.exists() and not Stream.objects.exists() and not Message.objects.exists()


@pytest.mark.parametrize("path", ["", "messages/"])
def test_a_conversation_of_a_thousand_turns_can_go(path: str, conversation: Conversation, at_alices: Client) -> None:
    turns(conversation, 1100)
    assert at_alices.delete(f"/api/conversations/{conversation.pk}/{path}").status_code == 204
    assert not Stream.objects.exists() and not Message.objects.exists()


def turns(conversation: Conversation, count: int) -> None:
    """Prompts and finished replies, each with the one before as its parent."""
    now = timezone.now()
    ended = {"topic": conversation.topic, "request": {}, "status": "done", "finished_at": now, "text": "Yes."}
    streams = Stream.objects.bulk_create(Stream(**ended) for _ in range(count))
    chain: list[Message] = []
    for stream in streams:
        prompt = Message(conversation=conversation, role="user", text="And?", parent=chain[-1] if chain else None)
        chain += [prompt, Message(conversation=conversation, role="assistant", parent=prompt, stream=stream)]
    for message in chain:
        message.created_at = now
    Message.objects.bulk_create(chain)


def every_page(client: Client, path: str) -> Iterator[dict[str, Any]]:
    for _ in range(20):
        page = client.get(path).json()
        yield page
        path = page["next"]
        if not path:
            return
    pytest.fail("the pages go on for ever")


def test_pages_of_messages_make_the_whole(conversation: Conversation, at_alices: Client) -> None:
    turns(conversation, 13)
    pages = list(every_page(at_alices, f"{messages_of(conversation)}?limit=4"))
    said = [message for page in pages for message in page["results"]]
    assert [len(page["results"]) for page in pages] == [4, 4, 4, 4, 4, 4, 2]
    assert all(after["parent"] == before["id"] for before, after in pairwise(said))


def test_a_conversation_that_moves_up_between_two_pages_hides_no_other(alice: User, at_alices: Client) -> None:
    made = [Conversation.objects.create(owner=alice).pk for _ in range(6)]
    first = at_alices.get("/api/conversations/?limit=3").json()
    Conversation.objects.filter(pk=made[0]).update(updated_at=timezone.now())
    rest = [row["id"] for row in at_alices.get(first["next"]).json()["results"]]
    assert rest == [str(pk) for pk in reversed(made[1:3])]


@pytest.mark.parametrize("count", [3, 30])
def test_lists_take_as_many_queries_for_many_rows_as_for_few(
    count: int,
    conversation: Conversation,
    at_alices: Client,
    alice: User,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    turns(conversation, count)
    Conversation.objects.bulk_create(Conversation(owner=alice) for _ in range(count))
    with django_assert_num_queries(3):  # session, user, conversations
        at_alices.get("/api/conversations/")
    with django_assert_num_queries(5):  # session, user, conversation, its branches, messages
        at_alices.get(messages_of(conversation))
    ask(at_alices, conversation)
    with django_assert_num_queries(6):  # and the rows of the one answer under way
        at_alices.get(f"{messages_of(conversation)}?limit=100")


# ---------------------------------------------------------------------------------------------- asking


def test_asking_gives_the_prompt_the_empty_reply_and_its_stream(
    conversation: Conversation, at_alices: Client, wakes: list[None], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = ask(at_alices, conversation, " \tHi 👋\n")
    turn = response.json()
    assert response.status_code == 201 and "Idempotent-Replayed" not in response
    assert (turn["prompt"]["text"], turn["reply"]["text"], turn["reply"]["status"]) == (" \tHi 👋\n", "", "pending")
    assert turn["stream"] == turn["reply"]["stream"] == str(Stream.objects.get().pk)
    assert turn["reply"]["parent"] == turn["prompt"]["id"]
    assert [turn["prompt"], turn["reply"]] == at_alices.get(messages_of(conversation)).json()["results"]
    assert wakes


def test_asking_twice_with_one_key_asks_once(conversation: Conversation, at_alices: Client) -> None:
    key = str(uuid.uuid4())
    first, second = ask(at_alices, conversation, key=key), ask(at_alices, conversation, key=key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert second["Idempotent-Replayed"] == "true"
    assert Stream.objects.count() == 1


def test_a_key_used_for_another_text_is_refused(conversation: Conversation, at_alices: Client) -> None:
    key = str(uuid.uuid4())
    ask(at_alices, conversation, "One", key)
    response = ask(at_alices, conversation, "Two", key)
    assert (response.status_code, response.json()["code"]) == (422, "key_reused")
    assert Message.objects.filter(role="user").count() == 1


def test_a_second_prompt_waits_for_the_end_of_the_first(running_stream: Stream, at_alices: Client) -> None:
    conversation = Conversation.objects.get()
    refused = ask(at_alices, conversation)
    assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    finish(running_stream, 3)
    assert ask(at_alices, conversation).status_code == 201


def test_prompts_are_limited_by_user(conversation: Conversation, at_alices: Client, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    assert ask(at_alices, conversation).status_code == 201
    response = ask(at_alices, conversation)
    assert (response.status_code, response.json()["code"]) == (429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 60


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that let go of their database connections before the test does."""
    barrier = Barrier(count)

    def leave() -> None:
        barrier.wait()
        connections.close_all()

    with ThreadPoolExecutor(count, initializer=close_old_connections) as pool:
        yield pool
        for done in [pool.submit(leave) for _ in range(count)]:
            done.result(10)


@pytest.mark.django_db(transaction=True)
def test_repeats_at_the_same_moment_ask_once(conversation: Conversation, alices_token: str) -> None:
    key = str(uuid.uuid4())
    together = Barrier(6)

    def once() -> tuple[int, str]:
        together.wait(10)
        response = ask(bearer(alices_token), conversation, key=key)
        return response.status_code, response.json()["stream"]

    with threads(6) as pool:
        answers = [future.result(30) for future in [pool.submit(once) for _ in range(6)]]
    assert sorted(status for status, _ in answers) == [200] * 5 + [201]
    assert {stream for _, stream in answers} == {str(Stream.objects.get().pk)}


@pytest.mark.django_db(transaction=True)
def test_of_two_prompts_at_the_same_moment_one_is_refused(conversation: Conversation, alices_token: str) -> None:
    together = Barrier(2)

    def once(text: str) -> int:
        together.wait(10)
        return int(ask(bearer(alices_token), conversation, text).status_code)

    with threads(2) as pool:
        answers = [future.result(30) for future in [pool.submit(once, text) for text in ("One", "Two")]]
    assert sorted(answers) == [201, 409]
    assert Message.objects.count() == 2


# ---------------------------------------------------------------------------------------------- streams


def test_a_running_stream_says_what_is_there_and_up_to_where(running_stream: Stream, at_alices: Client) -> None:
    add(running_stream, 3, "Hm.", kind="reasoning")
    said = at_alices.get(f"/api/streams/{running_stream.pk}/").json()
    assert (said["status"], said["seq"], said["text"], said["reasoning"]) == ("streaming", 3, "Hello", "Hm.")
    assert (said["attempt"], said["usage"], said["error"], said["finish_reason"]) == (1, None, None, None)
    assert set(said["timings"]) == {"created_at", "claimed_at", "first_text_at", "finished_at"}
    assert said["timings"]["claimed_at"] and said["timings"]["finished_at"] is None


def test_a_finished_stream_says_how_it_ended(running_stream: Stream, at_alices: Client) -> None:
    finish(running_stream, 3)
    said = at_alices.get(f"/api/streams/{running_stream.pk}/").json()
    assert (said["status"], said["seq"], said["text"], said["finish_reason"]) == ("done", 3, "Hello", "stop")
    assert datetime.fromisoformat(said["timings"]["finished_at"]).tzinfo is not None


def test_pages_of_chunks_make_the_whole(running_stream: Stream, at_alices: Client, settings: Settings) -> None:
    settings.READER_PAGE_BYTES = 150
    for seq in range(3, 8):
        add(running_stream, seq, f"{seq}")
    path, after, rows = f"/api/streams/{running_stream.pk}/chunks/", 0, []
    for _ in range(10):
        page = at_alices.get(path, {"after": after}).json()
        rows += page["results"]
        after = page["next_after"]
        if not page["more"]:
            break
        assert len(page["results"]) == 2
    assert [row["seq"] for row in rows] == list(range(1, 8))
    assert "".join(row["text"] for row in rows) == "Hello34567"


def test_chunks_that_are_no_text_have_a_payload(running_stream: Stream, at_alices: Client) -> None:
    retry = {"attempt": 2, "of": 3, "wait_s": 1.0, "reason": "busy"}
    assert running_stream.lease is not None
    Stream.objects.append([Entry(running_stream.pk, running_stream.lease, (Row(3, "retry", "", retry),))])
    page = at_alices.get(f"/api/streams/{running_stream.pk}/chunks/?after=1").json()
    assert page["results"] == [
        {"seq": 2, "kind": "text", "text": "lo"},
        {"seq": 3, "kind": "retry", "payload": retry},
    ]
    assert (page["next_after"], page["more"]) == (3, False)


def test_a_page_behind_the_last_chunk_is_empty_and_keeps_the_position(
    running_stream: Stream, at_alices: Client
) -> None:
    page = at_alices.get(f"/api/streams/{running_stream.pk}/chunks/?after=2").json()
    assert page == {"results": [], "next_after": 2, "more": False}


def test_stop_asks_for_the_end_once_and_says_how_the_stream_stands(
    running_stream: Stream, at_alices: Client, wakes: list[None], django_capture_on_commit_callbacks: Any
) -> None:
    path = f"/api/streams/{running_stream.pk}/stop/"
    with django_capture_on_commit_callbacks(execute=True):
        assert at_alices.post(path).json()["status"] == "streaming"
    asked_at = Stream.objects.get().stop_requested_at
    assert asked_at is not None and wakes
    assert at_alices.post(path).status_code == 200
    assert Stream.objects.get().stop_requested_at == asked_at


def test_stop_leaves_a_finished_stream_as_it_is(running_stream: Stream, at_alices: Client) -> None:
    finish(running_stream, 3)
    assert at_alices.post(f"/api/streams/{running_stream.pk}/stop/").json()["status"] == "done"
    assert Stream.objects.get().stop_requested_at is None


# ---------------------------------------------------------------------------------------------- schema and docs


@pytest.fixture
def schema(tmp_path: Path) -> dict[str, Any]:
    """The schema, which fails to be made when it is not valid or drf-spectacular has to guess."""
    file = tmp_path / "schema.yml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(file))
    made: dict[str, Any] = yaml.safe_load(file.read_text())
    return made


def test_the_schema_is_openapi_3_1_with_both_ways_in(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1")
    assert schema["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    post = schema["paths"]["/api/conversations/{id}/messages/"]["post"]
    assert {"201", "200", "400", "401", "404", "409", "413", "415", "422", "429"} <= set(post["responses"])
    assert "Idempotency-Key" in [parameter["name"] for parameter in post["parameters"]]
    assert schema["paths"]["/api/visitors/"]["post"].get("security", [{}]) == [{}]


def test_the_docs_run_no_inline_script_and_load_only_own_files(client: Client) -> None:
    html = client.get("/api/docs/").content.decode()
    assert "<style" not in html and "<script>" not in html
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(sources) == 5
    for source in sources:
        response = client.get(source)
        assert source.startswith("/") and response.status_code == 200, source
        response.close()
