"""Whatever is sent to the API, it answers in its one shape of an error what is wrong, and stores nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from pytest_django import Settings

from conversations.api import errors, native
from conversations.models import Conversation, Message, User
from streaming.models import Stream

pytestmark = pytest.mark.django_db
JSON = "application/json"
SOMEBODY = "019a0000-0000-7000-8000-000000000000"


def refusal(response: Any) -> tuple[int, str]:
    """Status and code of an answer, which must have the one shape."""
    assert response["Content-Type"] == JSON, response.content
    said = response.json()
    assert set(said) in ({"code", "detail"}, {"code", "detail", "fields"}), said
    assert isinstance(said["code"], str) and isinstance(said["detail"], str) and said["detail"]
    for texts in said.get("fields", {}).values():
        assert texts and all(isinstance(text, str) for text in texts)
    return response.status_code, said["code"]


def cursor(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


BODIES = {
    "nothing": (b" ", 400, "parse_error"),
    "not json": (b"text=Hello", 400, "parse_error"),
    "half an object": (b'{"text": "Hel', 400, "parse_error"),
    "two objects": (b'{"text": "a"} {"text": "b"}', 400, "parse_error"),
    "python's nan": (b'{"text": NaN}', 400, "parse_error"),
    "latin-1": b'{"text": "caf\xe9"}',
    "a lone surrogate": b'{"text": "\\ud83d"}',
    "a lone surrogate in bytes": b'{"text": "\xed\xa0\xbd"}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"text":' * 100_000 + b"1" + b"}" * 100_000,
    "an array": (b'[{"text": "Hello"}]', 400, "invalid"),
    "a string": (b'"Hello"', 400, "invalid"),
    "null": (b"null", 400, "invalid"),
    "true": (b"true", 400, "invalid"),
    "a huge number": (b'{"text": ' + b"9" * 5000 + b"}", 400, None),
}
WRITES = {
    "begin": ("post", "/api/conversations/"),
    "change": ("patch", "/api/conversations/{conversation}/"),
    "ask": ("post", "/api/conversations/{conversation}/messages/"),
}


def write(client: Client, name: str, conversation: Conversation, body: bytes | str, **options: Any) -> Any:
    method, path = WRITES[name]
    options = {"content_type": JSON, **options}
    return client.generic(method.upper(), path.format(conversation=conversation.pk), body, **options)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_json_object_is_refused(
    name: str, what: str, conversation: Conversation, at_alices: Client
) -> None:
    case = BODIES[what]
    body, status, code = case if isinstance(case, tuple) else (case, 400, "parse_error")
    answer = refusal(write(at_alices, name, conversation, body))
    assert answer[0] == status and code in (None, answer[1])
    assert Conversation.objects.count() == 1 and not Message.objects.exists()


LONG = "x" * 201
FIELDS = [
    ("ask", {}, "text"),
    ("ask", {"text": ""}, "text"),
    ("ask", {"text": " \n\t"}, "text"),
    ("ask", {"text": None}, "text"),
    ("ask", {"text": 5}, "text"),
    ("ask", {"text": True}, "text"),
    ("ask", {"text": ["Hello"]}, "text"),
    ("ask", {"text": {"text": "Hello"}}, "text"),
    ("ask", {"text": "a\0b"}, "text"),
    ("ask", {"text": "x" * 101}, "text"),
    ("ask", {"text": "Hello", "stream": SOMEBODY}, "stream"),
    *[
        (name, values, field)
        for name in ("begin", "change")
        for values, field in [
            ({"title": LONG}, "title"),
            ({"title": None}, "title"),
            ({"title": 7}, "title"),
            ({"title": "a\0"}, "title"),
            ({"model": "no-such-model"}, "model"),
            ({"model": ["demo"]}, "model"),
            ({"system_prompt": "x" * 101}, "system_prompt"),
            ({"system_prompt": {}}, "system_prompt"),
            ({"owner": 1}, "owner"),
            ({"id": SOMEBODY}, "id"),
            ({"created_at": "2020-01-01T00:00:00Z"}, "created_at"),
            ({"titel": "Fish"}, "titel"),
            ({"": ""}, ""),
        ]
    ],
]


@pytest.mark.parametrize(("name", "values", "field"), FIELDS, ids=lambda value: json.dumps(value)[:40])
def test_a_field_that_is_wrong_is_named(
    name: str,
    values: dict[str, Any],
    field: str,
    conversation: Conversation,
    at_alices: Client,
    settings: Settings,
) -> None:
    settings.PROMPT_MAX_CHARS = 100
    response = write(at_alices, name, conversation, json.dumps(values))
    assert refusal(response) == (400, "invalid")
    assert set(response.json()["fields"]) == {field}
    conversation.refresh_from_db()
    assert (conversation.title, conversation.system_prompt) == ("", "")
    assert Conversation.objects.count() == 1 and not Message.objects.exists()


@pytest.mark.parametrize("text", ["x" * 100, "😀" * 100, "\u202e\ufeff\u0001", "</script>", "0", "null"])
def test_any_other_text_comes_back_as_it_was(
    text: str, conversation: Conversation, at_alices: Client, settings: Settings
) -> None:
    settings.PROMPT_MAX_CHARS = 100
    response = write(at_alices, "ask", conversation, json.dumps({"text": text}))
    assert response.status_code == 201
    assert response.json()["prompt"]["text"] == text == Message.objects.get(role="user").text


@pytest.mark.parametrize("key", ["", " ", "1", "x" * 10_000, f"{{{SOMEBODY}}}", SOMEBODY.replace("-", ""), "é"])
def test_a_key_that_is_no_uuid_is_refused(key: str, conversation: Conversation, at_alices: Client) -> None:
    response = write(at_alices, "ask", conversation, '{"text": "Hello"}', headers={"Idempotency-Key": key})
    assert refusal(response) == (400, "invalid")
    assert set(response.json()["fields"]) == {"Idempotency-Key"}
    assert not Message.objects.exists()


QUERIES = [
    *[(path, "limit", value) for path in ("conversations/", "messages/") for value in ("0", "-1", "x", "1.5", "٣", "")],
    *[
        (path, "cursor", value)
        for path in ("conversations/", "messages/")
        for value in (
            "x",
            "é",
            "\0",
            cursor("p=garbage"),
            cursor(f"never {SOMEBODY}"),
            cursor("2026-01-01T00:00:00+00:00 1"),
            cursor(f"2026-01-01T00:00:00 {SOMEBODY}"),
            cursor(f"0001-01-01T00:00:00+14:00 {SOMEBODY}"),
        )
    ],
    *[("chunks/", "after", value) for value in ("-1", "x", "1.5", "", "9" * 30, "9" * 5000, "2147483648", "\0")],
]


@pytest.mark.parametrize(("path", "name", "value"), QUERIES, ids=lambda value: repr(value)[:20])
def test_a_query_that_makes_no_sense_is_refused(
    path: str, name: str, value: str, conversation: Conversation, at_alices: Client
) -> None:
    stream = conversation.ask("Hello?").stream_id
    paths = {"messages/": f"conversations/{conversation.pk}/messages/", "chunks/": f"streams/{stream}/chunks/"}
    response = at_alices.get(f"/api/{paths.get(path, path)}", {name: value})
    assert refusal(response) == (400, "invalid")
    assert set(response.json()["fields"]) == {name}


NOWHERE = [
    "",
    "nothing/",
    "conversations",
    "conversations/1/",
    "conversations/not-a-uuid/messages/",
    f"conversations/{SOMEBODY.upper()}/",
    "streams/0/chunks/",
    f"streams/{SOMEBODY}'/",
    "streams/%00/",
    "streams/%ff/",
    "%2e%2e/admin/",
    f"conversations/{SOMEBODY}/",
    f"conversations/{SOMEBODY}/messages/",
    f"streams/{SOMEBODY}/",
    f"streams/{SOMEBODY}/chunks/",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_not_there_is_not_found(path: str, at_alices: Client) -> None:
    assert refusal(at_alices.get(f"/api/{path}")) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "NONSENSE"])
@pytest.mark.parametrize("path", ["conversations/", "me/", f"streams/{SOMEBODY}/stop/"])
def test_a_method_that_is_not_there_is_refused(method: str, path: str, at_alices: Client) -> None:
    assert refusal(at_alices.generic(method, f"/api/{path}")) == (405, "method_not_allowed")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "json", ""])
@pytest.mark.parametrize("name", WRITES)
def test_only_json_is_taken(name: str, kind: str, conversation: Conversation, at_alices: Client) -> None:
    response = write(at_alices, name, conversation, '{"text": "Hello"}', content_type=kind)
    assert refusal(response) == (415, "unsupported_media_type")


def test_only_json_is_given(at_alices: Client) -> None:
    assert refusal(at_alices.get("/api/me/", headers={"Accept": "text/html"})) == (406, "not_acceptable")
    assert at_alices.get("/api/me/?format=xml").status_code == 200


@pytest.mark.parametrize("name", WRITES)
def test_ten_megabytes_are_refused(name: str, conversation: Conversation, at_alices: Client) -> None:
    body = b'{"text": "' + b"x" * 10_000_000 + b'"}'
    assert refusal(write(at_alices, name, conversation, body)) == (413, "body_too_large")
    assert not Message.objects.exists()


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(
    conversation: Conversation, at_alices: Client, settings: Settings
) -> None:
    settings.BODY_MAX_BYTES = 1000
    body = b'{"text": "' + b"x" * 988 + b'"}'
    assert refusal(write(at_alices, "ask", conversation, body + b" ")) == (413, "body_too_large")
    assert write(at_alices, "ask", conversation, body).status_code == 201


def test_a_body_of_unannounced_length_is_refused_rather_than_taken_for_none(alice: User) -> None:
    request = RequestFactory().post("/api/conversations/", headers={"Transfer-Encoding": "chunked"})
    request.user = alice
    del request.META["CONTENT_LENGTH"]
    response = native.Conversations.as_view()(request).render()
    assert (response.status_code, response.data["code"]) == (411, "length_required")


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "bearer x", "Bearer é", "Bearer a b", "Bearer \0"])
def test_a_bearer_that_is_none_is_refused(header: str, at_alices: Client) -> None:
    assert refusal(at_alices.get("/api/me/", headers={"Authorization": header})) == (401, "bad_token")


def test_an_expired_session_is_nobody(at_alices: Client) -> None:
    at_alices.session.flush()
    assert refusal(at_alices.get("/api/me/")) == (401, "not_authenticated")


def test_a_foreign_host_is_refused_in_the_same_shape() -> None:
    assert refusal(Client(SERVER_NAME="evil.example").get("/api/me/")) == (400, "bad_request")


def test_a_fault_of_the_site_has_the_same_shape(at_alices: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(view: native.View) -> None:
        raise RuntimeError("the secret of the site")

    monkeypatch.setattr(native.View, "person", break_down)
    at_alices.raise_request_exception = False
    response = at_alices.get("/api/me/")
    assert refusal(response) == (500, "server_error")
    assert b"secret" not in response.content


def test_pages_keep_their_own_errors(client: Client) -> None:
    for handler in (errors.bad_request, errors.permission_denied, errors.page_not_found):
        response: HttpResponse = handler(RequestFactory().get("/elsewhere/"), Exception("why"))
        assert response.status_code in (400, 403, 404) and "html" in response["Content-Type"]
        assert "json" in handler(RequestFactory().get("/api/elsewhere/"), Exception("why"))["Content-Type"]


def test_a_conversation_deleted_meanwhile_is_not_found(
    conversation: Conversation, at_alices: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Conversation.ask

    def too_late(self: Conversation, *arguments: Any) -> Message:
        Conversation.objects.all().delete()
        return ask(self, *arguments)

    monkeypatch.setattr(Conversation, "ask", too_late)
    assert refusal(write(at_alices, "ask", conversation, '{"text": "Hello"}')) == (404, "not_found")
    assert not Stream.objects.exists()
