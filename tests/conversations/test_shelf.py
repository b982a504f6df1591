"""The list of conversations, the search in them, and what their owner does to one as a whole."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from conversations.models import Conversation, Message, User
from conversations.search import snippet
from conversations.titles import title_from
from streaming.models import Stream
from tests.conftest import add, finish, stream_of
from tests.longread import long_conversation

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def path(name: str, conversation: Conversation, **more: str) -> str:
    return reverse(name, kwargs={"pk": conversation.pk, **more})


def listed(client: Client, have: str = "", current: str = "") -> str:
    """What a page that shows the version `have` gets."""
    return client.get(reverse("chats"), {"have": have, "current": current}).content.decode()


def version(page: str) -> str:
    found = re.search(r"have=(\w+)", page)
    assert found
    return found[1]


def said(owner: User, prompt: str, answer: str, title: str = "A title") -> Conversation:
    """A conversation with one finished turn."""
    conversation = Conversation.objects.create(owner=owner, title=title)
    stream = Stream.objects.claim(stream_of(conversation.ask(prompt)), "elsewhere", 60)
    assert stream
    add(stream, 1, answer)
    finish(stream, 2)
    return conversation


# The list


def test_a_page_that_shows_the_list_as_it_is_gets_nothing(at_alices: Client, conversation: Conversation) -> None:
    have = version(at_alices.get("/").content.decode())
    answer = at_alices.get(reverse("chats"), {"have": have})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_page_asks_more_often_while_something_is_answered(
    at_alices: Client, conversation: Conversation, settings: Settings
) -> None:
    def every() -> float:
        found = re.search(r'hx-trigger="every ([\d.]+)s', listed(at_alices))
        assert found
        return float(found[1])

    assert every() == 10
    conversation.ask("Hello?")
    assert every() == 2
    settings.SHELF_CHECK_S = 1.5
    assert every() == 1.5


def test_the_list_changes_with_titles_answers_and_deletions(at_alices: Client, conversation: Conversation) -> None:
    seen = [listed(at_alices)]
    at_alices.post(path("rename", conversation), {"title": "Tulips"})
    seen.append(listed(at_alices, version(seen[-1])))
    assert "Tulips" in seen[-1] and "data-live" not in seen[-1]
    stream = stream_of(conversation.ask("Why?"))
    seen.append(listed(at_alices, version(seen[-1])))
    assert "data-live" in seen[-1]
    Stream.objects.filter(pk=stream).update(status="stopped", finished_at=Now())
    seen.append(listed(at_alices, version(seen[-1])))
    assert "data-live" not in seen[-1]
    at_alices.post(path("delete", conversation))
    assert "Tulips" not in listed(at_alices, version(seen[-1]))


def test_a_page_is_told_its_own_title_with_the_list(at_alices: Client, conversation: Conversation) -> None:
    Conversation.objects.update(title="Tulips & more")
    page = listed(at_alices, current=str(conversation.pk))
    assert 'hx-swap-oob="true">Tulips &amp; more</h1>' in page
    assert page.count('aria-current="page"') == 1


def test_whoever_is_signed_out_is_not_sent_a_log_in_page_for_a_list(client: Client) -> None:
    assert client.get(reverse("chats")).status_code == 401


def test_asking_for_the_list_takes_four_queries(
    at_alices: Client, conversation: Conversation, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(4):  # session, user, conversations, streams
        listed(at_alices)


# Search


@pytest.mark.parametrize("words", ["sky", "SKY blue", "rayleigh", "blue scatter", "colours"])
def test_prompts_answers_and_titles_are_found(at_alices: Client, alice: User, words: str) -> None:
    said(alice, "Why is the sky blue?", "Rayleigh scattering; blue scatters most.", title="About colours")
    said(alice, "How are you?", "Fine.", title="Greetings")
    page = at_alices.get(reverse("search"), {"q": words}, headers=HTMX).content.decode()
    assert "About colours" in page
    assert "Greetings" not in page


@pytest.mark.parametrize("words", ["grüsse", "GRÜSSE"])
def test_letters_beyond_ascii_are_found_whatever_their_case(at_alices: Client, alice: User, words: str) -> None:
    said(alice, "Wie sagt man?", "Viele Grüsse!")
    assert "1 found" in at_alices.get(reverse("search"), {"q": words}, headers=HTMX).content.decode()


def test_a_result_leads_to_the_message_and_marks_the_word(at_alices: Client, alice: User) -> None:
    found = said(alice, "Why?", "Because <b>rain</b>drops bend light.")
    page = at_alices.get(reverse("search"), {"q": "rain"}, headers=HTMX).content.decode()
    reply = Message.objects.get(conversation=found, role="assistant")
    assert f'href="{path("conversation", found)}?message={reply.pk}#message-{reply.pk}"' in page
    assert "Because &lt;b&gt;<mark>rain</mark>&lt;/b&gt;drops" in page


def test_a_result_leads_into_a_branch_that_is_not_chosen_and_chooses_nothing(at_alices: Client, alice: User) -> None:
    found = said(alice, "Why?", "Because of rain.")
    reply = Message.objects.get(conversation=found, role="assistant")
    found.regenerate(reply.pk)
    there = path("conversation", found)
    for address, version in ((there, "2/2"), (f"{there}?message={reply.pk}", "1/2"), (there, "2/2")):
        page = at_alices.get(address).content.decode()
        assert f'branch-number">{version}<' in page
        assert ("Because of rain." in page) == (version == "1/2")


@pytest.mark.parametrize("message", ["", "1", "00000000-0000-0000-0000-000000000000"])
def test_a_result_that_is_gone_leads_to_its_conversation(at_alices: Client, alice: User, message: str) -> None:
    found = said(alice, "Why?", "Because of rain.")
    reply = Message.objects.get(conversation=found, role="assistant")
    found.regenerate(reply.pk)
    found.choose(reply.pk)
    assert "Because of rain." in at_alices.get(f"{path('conversation', found)}?message={message}").content.decode()


def test_nobody_finds_what_others_said_or_what_was_deleted(at_alices: Client, alice: User, bob: User) -> None:
    said(bob, "Secret tulips", "Yes.", title="Tulips")
    said(alice, "Old tulips", "Yes.", title="Tulips").discard()
    assert "Nothing found" in at_alices.get(reverse("search"), {"q": "tulips"}, headers=HTMX).content.decode()


@pytest.mark.parametrize("words", ["'", "\\", "%", "_", "!&|()", ":*", "<->", "\0", "a" * 3000, "( ' ) \" ; -- "])
def test_no_sign_upsets_the_search(at_alices: Client, alice: User, words: str) -> None:
    said(alice, "Why?", "Because.")
    answer = at_alices.get(reverse("search"), {"q": words}, headers=HTMX)
    assert answer.status_code == 200
    assert "Because." not in answer.content.decode()


def test_an_answer_of_a_megabyte_is_stored_and_its_beginning_found(at_alices: Client, alice: User) -> None:
    said(alice, "Numbers?", "".join(f"word{n} " for n in range(120_000)), title="Long")
    assert "Long" in at_alices.get(reverse("search"), {"q": "word4711"}, headers=HTMX).content.decode()


def test_without_htmx_the_search_is_a_page(at_alices: Client, alice: User) -> None:
    said(alice, "Why?", "Because.", title="Reasons")
    page = at_alices.get(reverse("search"), {"q": "because"}).content.decode()
    assert "<title>because · Search" in page
    assert 'value="because"' in page
    assert "<mark>Because</mark>" in page


def test_the_api_searches_too(at_alices: Client, alice: User) -> None:
    found = said(alice, "Why is the sky blue?", "Scattering.")
    said(alice, "How are you?", "Fine.")
    results = at_alices.get("/api/conversations/", {"search": "sky"}).json()["results"]
    assert [each["id"] for each in results] == [str(found.pk)]
    assert len(at_alices.get("/api/conversations/", {"search": " "}).json()["results"]) == 2


def test_a_snippet_is_cut_around_the_first_word() -> None:
    line = snippet("word " * 500 + "needle" + " word" * 500, ["needle"])
    assert line.startswith("…word ") and line.endswith("…") and "<mark>needle</mark>" in line
    assert len(line) < 200


# Titles


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("Why is the sky blue?\nAnd red?", "Why is the sky blue?"),
        ("## Plan **my** week\nmore", "Plan my week"),
        ("```py\nx = 1\n```\nWhat does `x` do?", "What does x do?"),
        ("```py\nx = 1\n```", "x = 1"),
        ("   \n\n- [ ] buy milk", "buy milk"),
        ("???", "???"),
        ("-5 + 3 = ?", "-5 + 3 = ?"),
        ("the __init__ of a_b", "the __init__ of a_b"),
        ("Explain how rainbows form. " + "I need it soon, " * 10, "Explain how rainbows form"),
        ("a word and " * 10, "a word and a word and a word and a word and a word and a…"),
        ("x" * 100, "x" * 60 + "…"),
    ],
)
def test_a_title_is_what_the_first_prompt_says_first(prompt: str, title: str) -> None:
    assert title_from(prompt) == title


# Model and instructions


def test_model_and_instructions_hold_from_the_next_answer_on(
    at_alices: Client, conversation: Conversation, settings: Settings
) -> None:
    settings.LLM_MODELS = ["small", "large"]
    at_alices.post(path("setup", conversation), {"model": "large", "system_prompt": "Be brief.\r\n"})
    conversation.refresh_from_db()
    request = Stream.objects.get(pk=stream_of(conversation.ask("Why?"))).request
    assert request["model"] == "large"
    assert request["messages"][0] == {"role": "system", "content": "Be brief.\n"}


@pytest.mark.parametrize("wrong", [{"model": "huge"}, {"model": "small", "system_prompt": "x" * 100_001}])
def test_what_cannot_be_set_up_is_said_and_changes_nothing(
    at_alices: Client, conversation: Conversation, settings: Settings, wrong: dict[str, str]
) -> None:
    settings.LLM_MODELS = ["small"]
    answer = at_alices.post(path("setup", conversation), wrong, follow=True)
    assert 'class="flash error"' in answer.content.decode()
    conversation.refresh_from_db()
    assert (conversation.model, conversation.system_prompt) == ("", "")


def test_a_first_prompt_may_choose_its_model(at_alices: Client, settings: Settings) -> None:
    settings.LLM_MODELS = ["small", "large"]
    assert "<option>large</option>" in at_alices.get("/").content.decode()
    at_alices.post("/", {"text": "Why?", "model": "large"})
    assert Conversation.objects.get().model == "large"


def test_a_model_that_is_no_longer_offered_is_not_asked(conversation: Conversation, settings: Settings) -> None:
    Conversation.objects.update(model="retired")
    conversation.refresh_from_db()
    assert Stream.objects.get(pk=stream_of(conversation.ask("Why?"))).request["model"] == settings.LLM_MODELS[0]


# Deleting


def test_a_deleted_conversation_is_gone_and_its_answer_ends(at_alices: Client, running_stream: Stream) -> None:
    conversation = Conversation.objects.get()
    page = at_alices.post(path("delete", conversation), follow=True).content.decode()
    assert f"“{conversation}” is deleted." in page
    assert at_alices.get(path("conversation", conversation)).status_code == 404
    assert at_alices.get(f"/api/streams/{running_stream.pk}/").status_code == 404
    running_stream.refresh_from_db()
    assert running_stream.stop_requested_at is not None


def test_a_deletion_can_be_undone(at_alices: Client, alice: User) -> None:
    conversation = said(alice, "Why?", "Because.")
    at_alices.post(path("delete", conversation))
    answer = at_alices.post(path("restore", conversation), follow=True)
    assert "Because." in answer.content.decode()
    assert "is deleted." not in at_alices.get("/").content.decode()


def test_an_undo_that_comes_too_late_says_so(at_alices: Client, conversation: Conversation) -> None:
    conversation.discard()
    Conversation.objects.update(deleted_at=Now() - timedelta(seconds=61))
    assert "is deleted." not in at_alices.get("/").content.decode()
    assert "too late" in at_alices.post(path("restore", conversation), follow=True).content.decode()


def test_a_stranger_undoes_nothing(client: Client, bob: User, conversation: Conversation) -> None:
    conversation.discard()
    client.force_login(bob)
    client.post(path("restore", conversation))
    assert not Conversation.objects.filter(deleted_at=None).exists()


def test_what_was_deleted_long_ago_is_removed_with_the_next_deletion(
    at_alices: Client, alice: User, running_stream: Stream
) -> None:
    Conversation.objects.get().discard()
    Conversation.objects.update(deleted_at=Now() - timedelta(seconds=61))
    at_alices.post(path("delete", Conversation.objects.create(owner=alice)))
    assert not Stream.objects.exists()
    assert Conversation.objects.count() == 1


def test_a_prompt_asked_again_after_the_deletion_of_its_conversation_opens_a_new_one(at_alices: Client) -> None:
    twice = {"text": "Why?", "key": "5f0c5a54-7d5b-4b5c-9c5e-0d3f7c1f2a11"}
    at_alices.post("/", twice)
    Conversation.objects.get().discard()
    answer = at_alices.post("/", twice)
    assert answer.headers["Location"] == path("conversation", Conversation.objects.get(deleted_at=None))


# Export


def test_markdown_has_the_branch_on_the_page(at_alices: Client, alice: User) -> None:
    conversation = said(alice, "Why?", "Because *it is*.", title="Größe / test")
    answer = at_alices.get(path("export", conversation, kind="md"))
    assert answer.content.decode() == "# Größe / test\n\n## You\n\nWhy?\n\n## Answer\n\nBecause *it is*.\n"
    assert "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe-test.md" in answer.headers["Content-Disposition"]


def test_markdown_says_what_was_cut(at_alices: Client, running_stream: Stream) -> None:
    page = at_alices.get(path("export", Conversation.objects.get(), kind="md")).content.decode()
    assert page.endswith("Hello\n\n*(streaming)*\n")


def test_json_has_everything_in_all_branches(at_alices: Client, alice: User) -> None:
    conversation = said(alice, "Why?", "Because.")
    first = Message.objects.get(role="assistant")
    conversation.regenerate(first.pk)
    data = json.loads(at_alices.get(path("export", conversation, kind="json")).content)
    assert [message["role"] for message in data["messages"]] == ["user", "assistant", "assistant"]
    assert data["messages"][1] == first.describe()
    assert data == at_alices.get(f"/api/conversations/{conversation.pk}/export/").json()


def test_the_api_exports_markdown_too(at_alices: Client, alice: User) -> None:
    conversation = said(alice, "Why?", "Because.")
    url = f"/api/conversations/{conversation.pk}/export/"
    assert at_alices.get(url, {"as": "markdown"}).content.startswith(b"# A title")
    assert at_alices.get(url, {"as": "pdf"}).status_code == 400


@pytest.mark.parametrize("name", ["setup", "restore", "share", "revoke"])
def test_what_changes_something_is_not_done_by_looking(
    at_alices: Client, conversation: Conversation, name: str
) -> None:
    assert at_alices.get(path(name, conversation)).status_code == 405


@pytest.mark.parametrize("name", ["setup", "share", "revoke"])
def test_a_stranger_changes_nothing(client: Client, bob: User, conversation: Conversation, name: str) -> None:
    client.force_login(bob)
    assert client.post(path(name, conversation), {"system_prompt": "Mine"}).status_code == 404
    conversation.refresh_from_db()
    assert (conversation.system_prompt, conversation.share) == ("", None)


@pytest.mark.parametrize("kind", ["md", "json"])
def test_a_stranger_takes_nothing_away(client: Client, bob: User, conversation: Conversation, kind: str) -> None:
    client.force_login(bob)
    assert client.get(path("export", conversation, kind=kind)).status_code == 404


def test_a_page_with_200_messages_takes_at_most_8_queries(
    at_alices: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    conversation = long_conversation(alice)
    with django_assert_max_num_queries(8):
        page = at_alices.get(path("conversation", conversation)).content.decode()
    assert page.count('class="message ') >= 200
