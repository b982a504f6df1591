"""The pages as a browser without JavaScript meets them: who sees what, and that no typed text is ever lost."""

from __future__ import annotations

import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from conversations.models import Conversation, Message, User
from conversations.templatetags import turns
from streaming.frames import Row
from streaming.models import Entry, Outcome, Stream
from tests.conftest import add, finish
from tests.longread import long_conversation

pytestmark = pytest.mark.django_db
POSTS = ("stop", "rename", "clear", "delete")


def path(name: str, conversation: Conversation) -> str:
    return reverse(name, args=[conversation.pk])


def read(client: Client, conversation: Conversation) -> str:
    answer = client.get(path("conversation", conversation))
    assert answer.status_code == 200
    return answer.content.decode()


def fields(key: uuid.UUID | None = None, text: str = "Why?") -> dict[str, str]:
    return {"text": text, "key": str(key or uuid.uuid4())}


def typed(answer: Any) -> str:
    """What stands in the composer of a page."""
    found = re.search(r'<textarea id="prompt"[^>]*>\n(.*?)</textarea>', answer.content.decode(), re.DOTALL)
    assert found
    return unescape(found[1])


def end_with(stream: Stream, outcome: Outcome, seq: int = 3) -> None:
    assert stream.lease
    row = Row(seq, "end", "", outcome.data())
    Stream.objects.append([Entry(stream.pk, stream.lease, (row,), outcome=outcome)])


# Who sees what


def test_a_stranger_at_the_door_may_start_log_in_or_sign_up(client: Client) -> None:
    page = client.get("/").content.decode()
    assert all(reverse(name) in page for name in ("visitor", "login", "signup"))


def test_one_click_makes_a_visitor_who_may_chat(client: Client) -> None:
    answer = client.post(reverse("visitor"), follow=True)
    assert "id_username" not in answer.content.decode()
    assert 'name="text"' in answer.content.decode()
    assert User.objects.get().is_visitor


def test_a_second_click_makes_no_second_visitor(client: Client) -> None:
    client.post(reverse("visitor"))
    client.post(reverse("visitor"))
    assert User.objects.count() == 1


def test_too_many_visitors_are_asked_to_wait(client: Client, settings: Settings) -> None:
    settings.THROTTLE_VISITORS = "1/hour"
    client.post(reverse("visitor"))
    answer = Client().post(reverse("visitor"))
    assert answer.status_code == 429
    assert "Too many" in answer.content.decode()
    assert User.objects.count() == 1


def test_the_owner_reads_a_stranger_gets_404(client: Client, alice: User, bob: User, reply: Message) -> None:
    client.force_login(alice)
    assert "Hello?" in read(client, reply.conversation)
    client.force_login(bob)
    assert client.get(path("conversation", reply.conversation)).status_code == 404


def test_nobody_is_sent_to_log_in_and_back(client: Client, conversation: Conversation) -> None:
    wanted = path("conversation", conversation)
    answer = client.get(wanted)
    assert answer.headers["Location"] == f"{reverse('login')}?next={wanted}"


@pytest.mark.parametrize("name", ["conversation", *POSTS])
def test_a_stranger_changes_nothing(client: Client, bob: User, running_stream: Stream, name: str) -> None:
    client.force_login(bob)
    conversation = Conversation.objects.get()
    assert client.post(path(name, conversation), {**fields(), "title": "Mine"}).status_code == 404
    running_stream.refresh_from_db()
    assert running_stream.stop_requested_at is None
    assert conversation.messages.count() == 2
    assert Conversation.objects.get().title == "Hello?"


@pytest.mark.parametrize("name", POSTS)
def test_looking_never_changes_anything(at_alices: Client, conversation: Conversation, name: str) -> None:
    assert at_alices.get(path(name, conversation)).status_code == 405


def test_forged_forms_are_refused(alice: User, conversation: Conversation) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post(path("conversation", conversation), fields()).status_code == 403
    assert not conversation.messages.exists()


def test_the_sidebar_lists_ones_own_conversations_only(at_alices: Client, alice: User, bob: User) -> None:
    Conversation.objects.create(owner=alice, title="Tulips")
    Conversation.objects.create(owner=bob, title="Secrets")
    page = at_alices.get("/").content.decode()
    assert "Tulips" in page
    assert "Secrets" not in page


def test_only_staff_see_the_way_to_the_administration(at_alices: Client, alice: User) -> None:
    assert reverse("admin:index") not in at_alices.get("/").content.decode()
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert reverse("admin:index") in at_alices.get("/").content.decode()


# Asking


def test_a_first_prompt_opens_its_conversation(at_alices: Client) -> None:
    answer = at_alices.post("/", fields(text="Why is the sky blue?"))
    conversation = Conversation.objects.get()
    assert answer.headers["Location"] == path("conversation", conversation)
    assert conversation.title == "Why is the sky blue?"
    assert [message.text for message in conversation.turns()] == ["Why is the sky blue?", ""]


def test_a_first_prompt_sent_twice_is_asked_once(at_alices: Client) -> None:
    twice = fields()
    first, second = at_alices.post("/", twice), at_alices.post("/", twice)
    assert first.headers["Location"] == second.headers["Location"]
    assert Stream.objects.count() == 1


def test_a_prompt_sent_twice_is_asked_once(at_alices: Client, conversation: Conversation) -> None:
    twice = fields()
    for _ in range(2):
        assert at_alices.post(path("conversation", conversation), twice).status_code == 302
    assert Stream.objects.count() == 1


def test_every_form_has_a_key_of_its_own(at_alices: Client) -> None:
    keys = {re.search(r'name="key" value="([^"]+)"', at_alices.get("/").content.decode()) for _ in range(2)}
    assert len({found[1] for found in keys if found}) == 2


def test_line_ends_of_a_browsers_form_become_the_ones_that_were_typed(at_alices: Client) -> None:
    at_alices.post("/", fields(text="one\r\ntwo"))
    assert Message.objects.filter(role="user").get().text == "one\ntwo"


def test_a_prompt_while_an_answer_is_written_is_refused_and_kept(at_alices: Client, running_stream: Stream) -> None:
    answer = at_alices.post(path("conversation", Conversation.objects.get()), fields(text="\n  And <b>you</b>?"))
    assert answer.status_code == 409
    assert "still being written" in answer.content.decode()
    assert typed(answer) == "\n  And <b>you</b>?"


@pytest.mark.parametrize("text", ["", "   \r\n"])
def test_an_empty_prompt_is_refused(at_alices: Client, text: str) -> None:
    answer = at_alices.post("/", fields(text=text))
    assert answer.status_code == 400
    assert "Write something first." in answer.content.decode()
    assert not Conversation.objects.exists()


def test_a_prompt_that_is_too_long_is_refused_and_kept(at_alices: Client, settings: Settings) -> None:
    settings.PROMPT_MAX_CHARS = 10
    answer = at_alices.post("/", fields(text="x" * 11))
    assert answer.status_code == 400
    assert "11 characters" in answer.content.decode()
    assert typed(answer) == "x" * 11


def test_a_key_that_came_with_another_text_is_refused(at_alices: Client, conversation: Conversation) -> None:
    key = uuid.uuid4()
    at_alices.post(path("conversation", conversation), fields(key))
    answer = at_alices.post(path("conversation", conversation), fields(key, "Something else"))
    assert answer.status_code == 409
    assert typed(answer) == "Something else"


def test_a_malformed_key_is_refused_and_the_text_kept(at_alices: Client) -> None:
    answer = at_alices.post("/", {"text": "Why?", "key": "one"})
    assert answer.status_code == 400
    assert typed(answer) == "Why?"


def test_too_many_prompts_are_asked_to_wait_and_kept(at_alices: Client, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    at_alices.post("/", fields())
    answer = at_alices.post("/", fields(text="And why?"))
    assert answer.status_code == 429
    assert typed(answer) == "And why?"


# The text


def test_a_page_opened_in_mid_answer_has_all_stored_text(at_alices: Client, running_stream: Stream) -> None:
    page = read(at_alices, Conversation.objects.get())
    assert f'data-stream="{running_stream.pk}" data-seq="2" data-status="streaming"' in page
    assert '<div class="body"><p>Hello</p></div>' in page


def test_without_script_the_page_follows_while_an_answer_is_written(at_alices: Client, running_stream: Stream) -> None:
    follows = '<noscript><meta http-equiv="refresh" content="2"></noscript>'
    conversation = Conversation.objects.get()
    assert follows in read(at_alices, conversation)
    finish(running_stream, 3)
    assert follows not in read(at_alices, conversation)


def test_a_waiting_answer_is_followed_too(at_alices: Client, reply: Message) -> None:
    page = read(at_alices, reply.conversation)
    assert 'data-seq="0" data-status="pending"' in page
    assert 'http-equiv="refresh"' in page


def test_neither_side_can_put_markup_on_the_page(at_alices: Client, alice: User) -> None:
    evil = '<script>alert("&amp;")</script>'
    reply = Conversation.objects.create(owner=alice, title=evil).ask(evil)
    assert reply.stream_id
    stream = Stream.objects.claim(reply.stream_id, "elsewhere", 60)
    assert stream
    add(stream, 1, evil)
    add(stream, 2, evil, kind="reasoning")
    page = read(at_alices, reply.conversation)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&quot;&amp;amp;&quot;)&lt;/script&gt;") >= 4


def test_a_bare_carriage_return_survives_the_parser(at_alices: Client, running_stream: Stream) -> None:
    add(running_stream, 3, "Hel\rlo", kind="reasoning")
    assert "Hel&#13;lo" in read(at_alices, Conversation.objects.get())


def test_reasoning_is_there_and_collapsed(at_alices: Client, running_stream: Stream) -> None:
    conversation = Conversation.objects.get()
    assert '<details class="reasoning" hidden>' in read(at_alices, conversation)
    add(running_stream, 3, "Well, well.", kind="reasoning")
    page = read(at_alices, conversation)
    assert '<details class="reasoning">' in page
    assert "Well, well." in page


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome("stopped"), "Stopped."),
        (Outcome("interrupted", error={"code": "x", "detail": "Too often."}), "Too often."),
        (Outcome("timeout", error={"code": "silence", "detail": "Silent for 60 s."}), "Silent for 60 s."),
        (Outcome("error", error={"code": "x", "detail": "No <such> model."}), "No &lt;such&gt; model."),
        (Outcome("done", "length"), "Cut at the length limit."),
        (Outcome("done", "content_filter"), "Cut by the content filter."),
        (Outcome("done", "stop", {"completion_tokens": 41}), "41 tokens"),
    ],
)
def test_the_page_says_how_an_answer_ended(
    at_alices: Client, running_stream: Stream, outcome: Outcome, words: str
) -> None:
    end_with(running_stream, outcome)
    messages = read(at_alices, Conversation.objects.get()).split("<template")[0]
    assert words in messages
    assert f'data-status="{outcome.status}"' in messages
    assert "Hello" in messages


# The rest of the forms


def test_stop_asks_the_writer_to_end(at_alices: Client, running_stream: Stream) -> None:
    answer = at_alices.post(path("stop", Conversation.objects.get()))
    assert answer.status_code == 302
    running_stream.refresh_from_db()
    assert running_stream.stop_requested_at is not None


def test_rename_clear_and_delete(at_alices: Client, reply: Message) -> None:
    conversation = reply.conversation
    at_alices.post(path("rename", conversation), {"title": "Greetings"})
    assert "Greetings" in read(at_alices, conversation)
    at_alices.post(path("clear", conversation))
    cleared = read(at_alices, conversation).split("<template")[0]
    assert "Hello?" not in cleared
    assert "Cleared." in cleared
    at_alices.post(path("delete", conversation))
    assert at_alices.get(path("conversation", conversation)).status_code == 404


# Accounts


def test_a_visitor_who_signs_up_stays_the_same_and_logged_in(client: Client) -> None:
    client.post(reverse("visitor"))
    client.post("/", fields())
    visitor = User.objects.get()
    new = {"username": "carol", "password1": "tall blue tulips", "password2": "tall blue tulips"}
    assert client.post(reverse("signup"), new).status_code == 302
    visitor.refresh_from_db()
    assert (visitor.username, visitor.is_visitor) == ("carol", False)
    assert "Why?" in read(client, Conversation.objects.get(owner=visitor))
    assert visitor.check_password("tall blue tulips")


@pytest.mark.parametrize(("wanted", "reached"), [("/c/x/", "/c/x/"), ("https://evil.example/", "/"), ("", "/")])
def test_signing_up_leads_back_to_the_chat_it_began_in(client: Client, wanted: str, reached: str) -> None:
    client.post(reverse("visitor"))
    form = client.get(reverse("signup"), {"next": wanted}).content.decode()
    assert f'name="next" value="{wanted if reached == wanted else ""}"' in form
    new = {"username": "carol", "password1": "tall blue tulips", "password2": "tall blue tulips", "next": wanted}
    assert client.post(reverse("signup"), new).headers["Location"] == reached
    assert "Your chats are kept." in client.get("/").content.decode()


def test_the_examples_of_the_demo_are_what_it_can_answer(at_alices: Client, settings: Settings) -> None:
    settings.OPENAI_BASE_URL = settings.OPENAI_API_KEY = ""
    assert "Show me a table" in at_alices.get("/").content.decode()
    settings.OPENAI_API_KEY = "sk-x"
    assert "Show me a table" not in at_alices.get("/").content.decode()


def test_a_weak_password_makes_no_account(client: Client) -> None:
    answer = client.post(reverse("signup"), {"username": "carol", "password1": "12345", "password2": "12345"})
    assert answer.status_code == 400
    assert "too short" in answer.content.decode()
    assert not User.objects.exists()


def test_a_failed_sign_up_leaves_the_visitor_as_it_was(client: Client) -> None:
    client.post(reverse("visitor"))
    name = User.objects.get().username
    client.post(reverse("signup"), {"username": "carol", "password1": "12345", "password2": "12345"})
    assert (User.objects.get().username, User.objects.get().is_visitor) == (name, True)
    assert client.get("/").status_code == 200


def test_a_visitor_who_logs_in_takes_the_conversations_along(client: Client, alice: User) -> None:
    client.post(reverse("visitor"))
    client.post("/", fields(text="Before"))
    client.post(reverse("login"), {"username": "alice", "password": "correct horse"})
    assert Conversation.objects.get().owner == alice


def test_log_in_returns_to_the_page_that_was_wanted(client: Client, conversation: Conversation) -> None:
    wanted = path("conversation", conversation)
    answer = client.post(reverse("login"), {"username": "alice", "password": "correct horse", "next": wanted})
    assert answer.headers["Location"] == wanted


def test_a_wrong_password_is_said_and_too_many_are_stopped(client: Client, alice: User, settings: Settings) -> None:
    settings.THROTTLE_LOGINS = "1/min"
    wrong = {"username": "alice", "password": "guess"}
    assert "correct username" in client.post(reverse("login"), wrong).content.decode()
    answer = client.post(reverse("login"), {**wrong, "password": "correct horse"})
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()


# What every page promises


@pytest.mark.parametrize("name", ["home", "login", "signup"])
def test_pages_have_no_inline_script_or_style(client: Client, name: str) -> None:
    answer = client.get(reverse(name))
    inline = re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", answer.content.decode())
    assert not inline
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_conversation_page_has_no_inline_script_or_style(at_alices: Client, running_stream: Stream) -> None:
    page = read(at_alices, Conversation.objects.get())
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page)


def test_a_page_that_is_not_there_says_so(client: Client) -> None:
    answer = client.get("/nothing/")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()


# What a page costs


def test_a_long_conversation_takes_no_more_queries_than_eight(
    at_alices: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    conversation = long_conversation(alice)
    with django_assert_max_num_queries(8) as made:
        read(at_alices, conversation)
    assert len(made) > 3


def test_a_message_that_has_ended_is_rendered_once(
    at_alices: Client, running_stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = Conversation.objects.get()
    assert "Hello" in read(at_alices, conversation)
    finish(running_stream, 3)
    first = read(at_alices, conversation)
    monkeypatch.setattr(turns, "render", lambda text: "rendered again")
    assert 'data-status="done"' in first
    assert "rendered again" not in read(at_alices, conversation)


def test_a_message_that_has_ended_shows_a_new_version_beside_it(at_alices: Client, running_stream: Stream) -> None:
    conversation, reply = Conversation.objects.get(), running_stream.message
    finish(running_stream, 3)
    assert 'branch-number">1/1<' in read(at_alices, conversation)
    conversation.regenerate(reply.pk)
    conversation.choose(reply.pk)
    assert 'branch-number">1/2<' in read(at_alices, conversation)


def test_what_is_kept_of_rendered_messages_is_bounded() -> None:
    kept = turns.Kept(limit_chars=10)
    for key in range(4):
        kept.add(key, "sixteen letters.")
        assert kept.get(key) == "sixteen letters."
        assert kept.get(key - 1) is None
