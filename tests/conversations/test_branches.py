"""Branches: what is regenerated or edited stands beside what was there, and one way through is the chosen one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from conversations.models import Conversation, Message, Refused, User
from conversations.tree import Tree
from streaming.models import Stream
from tests.conftest import stream_of
from tests.test_protocol import connected

pytestmark = pytest.mark.django_db
JSON = "application/json"
KEY = uuid.UUID("5f0c5a54-7d5b-4b5c-9c5e-0d3f7c1f2a11")


def answered(reply: Message, text: str = "Yes.") -> Message:
    """The reply, once its stream has ended with this text."""
    Stream.objects.filter(pk=stream_of(reply)).update(status="done", finished_at=timezone.now(), text=text)
    return reply


def said(conversation: Conversation) -> list[str]:
    conversation.refresh_from_db()
    return [message.content for message in conversation.turns()]


def sent_for(reply: Message) -> list[tuple[str, str]]:
    """What the model was asked for this reply."""
    request = Stream.objects.get(pk=stream_of(reply)).request
    return [(message["role"], message["content"]) for message in request["messages"] if message["role"] != "system"]


@pytest.fixture
def long(conversation: Conversation) -> list[Message]:
    """Three turns: One? 1. Two? 2. Three? 3."""
    for prompt, reply in (("One?", "1"), ("Two?", "2"), ("Three?", "3")):
        answered(conversation.ask(prompt), reply)
    return conversation.turns()


# ------------------------------------------------------------------------------------------------------ the tree itself


def test_a_tree_knows_ways_places_and_what_is_newest_behind_a_message() -> None:
    a, b, c, d, e = (uuid.UUID(int=n) for n in range(5))
    tree = Tree([(a, None), (b, a), (c, a), (d, b), (e, None)], leaf=d)
    assert tree.path(tree.leaf) == [a, b, d]
    assert tree.path(None) == []
    assert (tree.branches(a), tree.branches(c), tree.branches(d)) == ([a, e], [b, c], [d])
    assert (tree.leaf_under(a), tree.leaf_under(b), tree.leaf_under(e)) == (c, d, e)


def test_a_tree_without_a_chosen_leaf_ends_at_its_newest_message() -> None:
    a, b, c = (uuid.UUID(int=n) for n in range(3))
    assert Tree([(a, None), (b, a)], leaf=c).leaf == b
    assert Tree([]).leaf is None


# -------------------------------------------------------------------------------------------------------------- turning


def test_regenerating_puts_a_reply_beside_the_old_one_and_keeps_both(
    conversation: Conversation, long: list[Message]
) -> None:
    again = answered(conversation.regenerate(long[3].pk), "two")
    assert again.parent_id == long[2].pk
    assert said(conversation) == ["One?", "1", "Two?", "two"]
    assert sent_for(again) == [("user", "One?"), ("assistant", "1"), ("user", "Two?")]
    assert Message.objects.count() == 7 and Message.objects.get(pk=long[5].pk).content == "3"


def test_regenerating_a_prompt_answers_it(conversation: Conversation, long: list[Message]) -> None:
    assert conversation.regenerate(long[2].pk).parent_id == long[2].pk


def test_editing_puts_a_prompt_beside_the_old_one_with_a_reply_of_its_own(
    conversation: Conversation, long: list[Message]
) -> None:
    edited = answered(conversation.edit(long[2].pk, "Two, or three?"), "2.5")
    assert said(conversation) == ["One?", "1", "Two, or three?", "2.5"]
    assert sent_for(edited) == [("user", "One?"), ("assistant", "1"), ("user", "Two, or three?")]
    answered(conversation.edit(long[0].pk, "Zero?"), "0")
    assert said(conversation) == ["Zero?", "0"]


def test_the_next_prompt_follows_the_chosen_branch(conversation: Conversation, long: list[Message]) -> None:
    answered(conversation.regenerate(long[1].pk), "one")
    conversation.choose(long[1].pk)
    assert said(conversation) == ["One?", "1", "Two?", "2", "Three?", "3"]
    four = answered(conversation.ask("Four?"), "4")
    assert [text for _, text in sent_for(four)] == ["One?", "1", "Two?", "2", "Three?", "3", "Four?"]


def test_a_prompt_follows_the_reply_it_names_whatever_is_chosen(
    conversation: Conversation, long: list[Message]
) -> None:
    answered(conversation.regenerate(long[5].pk), "three")
    answered(conversation.ask("Four?", parent=long[5].pk), "4")
    assert said(conversation) == ["One?", "1", "Two?", "2", "Three?", "3", "Four?", "4"]


def test_choosing_leads_to_what_was_said_last_behind_a_message(conversation: Conversation, long: list[Message]) -> None:
    again = answered(conversation.regenerate(long[1].pk), "one")
    answered(conversation.ask("And?"), "more")
    conversation.choose(long[1].pk)
    conversation.choose(again.pk)
    assert said(conversation) == ["One?", "one", "And?", "more"]


def test_a_conversation_of_before_branches_ends_at_its_newest_message(
    conversation: Conversation, long: list[Message]
) -> None:
    Conversation.objects.update(leaf=None)
    assert said(conversation)[-1] == "3"


@pytest.mark.parametrize("what", ["regenerate", "edit", "ask"])
def test_nothing_is_turned_while_an_answer_is_written(what: str, conversation: Conversation, reply: Message) -> None:
    turn: dict[str, Callable[[], Any]] = {
        "regenerate": lambda: conversation.regenerate(reply.pk),
        "edit": lambda: conversation.edit(reply.parent_id or reply.pk, "Else?"),
        "ask": lambda: conversation.ask("More?"),
    }
    with pytest.raises(Refused) as refused:
        turn[what]()
    assert refused.value.code == "busy"
    assert Message.objects.count() == 2 and Stream.objects.count() == 1


def test_only_messages_of_the_conversation_and_of_the_right_role_will_do(
    conversation: Conversation, long: list[Message], alice: User
) -> None:
    other = answered(Conversation.objects.create(owner=alice).ask("Elsewhere?"))
    tries: list[Callable[[], Any]] = [
        lambda: conversation.regenerate(other.pk),
        lambda: conversation.edit(long[1].pk, "A reply"),
        lambda: conversation.ask("Behind a prompt", parent=long[0].pk),
        lambda: conversation.ask("Elsewhere", parent=other.pk),
        lambda: conversation.choose(other.pk),
    ]
    for turn in tries:
        with pytest.raises(Refused, match="no such message"):
            turn()
    assert Message.objects.count() == 8


# ----------------------------------------------------------------------------------------------------------------- keys


def test_a_repeated_key_gives_back_what_it_made_however_many_replies_there_are(
    conversation: Conversation, long: list[Message]
) -> None:
    first = answered(conversation.ask("Four?", KEY))
    again = answered(conversation.regenerate(first.pk, uuid.UUID(int=1)))
    edited = answered(conversation.edit(long[0].pk, "Zero?", uuid.UUID(int=2)))
    assert conversation.ask("Four?", KEY) == first and conversation.ask("Four?", KEY).repeated
    assert conversation.regenerate(first.pk, uuid.UUID(int=1)) == again
    assert conversation.edit(long[0].pk, "Zero?", uuid.UUID(int=2)) == edited
    assert Stream.objects.count() == 6


def test_a_key_that_was_used_for_something_else_is_refused(conversation: Conversation, long: list[Message]) -> None:
    answered(conversation.ask("Four?", KEY))
    answered(conversation.regenerate(long[1].pk, uuid.UUID(int=1)))
    tries: list[Callable[[], Any]] = [
        lambda: conversation.regenerate(long[1].pk, KEY),
        lambda: conversation.regenerate(long[3].pk, uuid.UUID(int=1)),
        lambda: conversation.ask("Five?", uuid.UUID(int=1)),
        lambda: conversation.edit(long[0].pk, "Five?", KEY),
    ]
    for turn in tries:
        with pytest.raises(Refused) as refused:
            turn()
        assert refused.value.code == "key_reused"


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What so many threads get that call at the same moment."""
    together = Barrier(count)

    def one(number: int) -> Any:
        close_old_connections()
        try:
            together.wait(10)
            return call(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        futures: list[Future[Any]] = [pool.submit(one, number) for number in range(count)]
        return [future.result(30) for future in futures]


@pytest.mark.django_db(transaction=True)
def test_regenerations_with_one_key_at_the_same_moment_make_one_reply(
    conversation: Conversation, alices_token: str
) -> None:
    reply = answered(conversation.ask("Hello?"))
    headers = {"Authorization": f"Bearer {alices_token}", "Idempotency-Key": str(KEY)}
    path = f"/api/messages/{reply.pk}/regenerate/"
    responses = at_once(5, lambda _: Client(headers=headers).post(path))
    assert sorted(response.status_code for response in responses) == [200] * 4 + [201]
    assert len({response.json()["stream"] for response in responses}) == 1
    assert Message.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_of_different_wishes_at_the_same_moment_one_is_granted(conversation: Conversation, alices_token: str) -> None:
    reply = answered(conversation.ask("Hello?"))
    wishes = [(reply.pk, "regenerate", {}), (reply.pk, "regenerate", {}), (reply.parent_id, "edit", {"text": "Else?"})]

    def wish(number: int) -> int:
        message, what, body = wishes[number]
        client = Client(headers={"Authorization": f"Bearer {alices_token}"})
        return int(client.post(f"/api/messages/{message}/{what}/", body, content_type=JSON).status_code)

    assert sorted(at_once(3, wish)) == [201, 409, 409]
    assert Stream.objects.count() == 2


# -------------------------------------------------------------------------------------------------------------- the API


def test_the_api_lists_the_chosen_branch_and_names_the_others(
    conversation: Conversation, long: list[Message], at_alices: Client
) -> None:
    again = at_alices.post(f"/api/messages/{long[3].pk}/regenerate/").json()["reply"]
    answered(Message.objects.get(pk=again["id"]), "two")
    path = f"/api/conversations/{conversation.pk}/messages/"
    shown = at_alices.get(path).json()["results"]
    assert [message["text"] for message in shown] == ["One?", "1", "Two?", "two"]
    assert shown[3]["branches"] == [str(long[3].pk), again["id"]] == again["branches"]
    assert shown[2]["branches"] == [str(long[2].pk)]
    assert at_alices.post(f"/api/messages/{long[3].pk}/choose/").status_code == 204
    assert [message["text"] for message in at_alices.get(path).json()["results"]][3:] == ["2", "Three?", "3"]


def test_the_api_edits_and_asks_behind_a_named_reply(
    conversation: Conversation, long: list[Message], at_alices: Client
) -> None:
    edited = at_alices.post(f"/api/messages/{long[4].pk}/edit/", {"text": "3?"}, content_type=JSON)
    assert (edited.status_code, edited.json()["prompt"]["text"]) == (201, "3?")
    assert edited.json()["prompt"]["branches"] == [str(long[4].pk), edited.json()["prompt"]["id"]]
    answered(Message.objects.get(pk=edited.json()["reply"]["id"]))
    body = {"text": "Four?", "parent": str(long[5].pk)}
    asked = at_alices.post(f"/api/conversations/{conversation.pk}/messages/", body, content_type=JSON).json()
    assert asked["prompt"]["parent"] == str(long[5].pk)


def test_a_turn_says_whether_it_is_on_the_chosen_branch(conversation: Conversation, long: list[Message]) -> None:
    again = answered(conversation.regenerate(long[3].pk))
    stale = Conversation.objects.get()
    frame = stale.turn(str(again.stream_id))
    assert frame and frame["chosen"] and frame["reply"]["branches"] == [str(long[3].pk), str(again.pk)]
    conversation.choose(long[3].pk)
    frame = stale.turn(str(again.stream_id))
    assert frame and not frame["chosen"]


def test_branches_cost_a_page_no_query_each(
    conversation: Conversation, long: list[Message], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for reply in long[1::2]:
        answered(conversation.regenerate(reply.pk))
    conversation.choose(long[5].pk)
    with django_assert_num_queries(3):  # the conversation, its tree, its messages
        found = Conversation.objects.get()
        described = [message.describe() for message in found.turns()]
    assert [len(message["branches"]) for message in described] == [1, 2, 1, 2, 1, 2]


# -------------------------------------------------------------------------------------------------------- the websocket


@pytest.mark.django_db(transaction=True)
async def test_a_reply_asked_for_again_here_is_told_there_and_a_second_wish_is_refused_by_its_key(
    conversation: Conversation, alices_token: str, hub_stopped: None
) -> None:
    reply = await sync_to_async(conversation.ask)("Hello?")
    await sync_to_async(answered)(reply)
    wish = {"type": "regenerate", "message": str(reply.pk)}
    async with connected(conversation, alices_token) as here, connected(conversation, alices_token) as there:
        for socket in (here, there):
            await socket.say({"type": "attach", "since": str(reply.stream_id)})
        await here.say(wish | {"key": str(KEY)}, wish | {"key": str(uuid.UUID(int=1))})
        *before, turn = await here.until("turn")
        assert turn["reply"]["key"] == str(KEY) and turn["chosen"]
        refused = before or await here.until("error")  # The turn may have to be looked up.
        assert (refused[-1]["code"], refused[-1]["key"]) == ("busy", str(uuid.UUID(int=1)))
        assert (await there.until("turn"))[-1] == turn
        edit = {"type": "edit", "message": str(reply.pk), "text": "No prompt", "key": str(uuid.UUID(int=2))}
        await here.say(wish | {"key": str(KEY)}, edit)
        assert [frame["code"] for frame in await here.until("error")] == ["unknown_message"]
    assert await Message.objects.acount() == 3


# ------------------------------------------------------------------------------------------------------------ the pages


def test_the_page_shows_the_chosen_branch_and_ways_to_the_others(
    conversation: Conversation, long: list[Message], at_alices: Client
) -> None:
    again = answered(conversation.regenerate(long[3].pk), "two")
    html = at_alices.get(f"/c/{conversation.pk}/").content.decode()
    assert "2/2" in html and f'value="{long[3].pk}" aria-label="Earlier version"' in html
    assert ">two<" in html and "Three?" not in html
    chosen = at_alices.post(f"/c/{conversation.pk}/choose/", {"message": long[3].pk})
    assert chosen.headers["Location"] == f"/c/{conversation.pk}/#message-{long[3].pk}"
    html = at_alices.get(f"/c/{conversation.pk}/").content.decode()
    assert "1/2" in html and f'value="{again.pk}" aria-label="Later version"' in html and "Three?" in html


def test_a_page_without_a_script_regenerates_and_says_what_hinders(
    conversation: Conversation, long: list[Message], at_alices: Client
) -> None:
    path = f"/c/{conversation.pk}/regenerate/"
    assert at_alices.post(path, {"message": long[5].pk}).headers["Location"] == f"/c/{conversation.pk}/"
    assert "still being written" in at_alices.post(path, {"message": long[5].pk}, follow=True).content.decode()
    assert Message.objects.count() == 7


def test_a_prompt_posted_from_an_old_page_follows_what_that_page_showed(
    conversation: Conversation, long: list[Message], at_alices: Client
) -> None:
    answered(conversation.regenerate(long[1].pk), "one")
    at_alices.post(f"/c/{conversation.pk}/", {"text": "Four?", "parent": long[5].pk})
    assert said(conversation)[-2:] == ["Four?", ""] and "3" in said(conversation)


@pytest.mark.parametrize("what", ["regenerate", "choose"])
@pytest.mark.parametrize("who", ["stranger", "owner with nonsense", "owner with another's message"])
def test_branches_of_others_and_nonsense_are_not_there(
    what: str, who: str, conversation: Conversation, long: list[Message], alice: User, bob: User, client: Client
) -> None:
    client.force_login(bob if who == "stranger" else alice)
    other = answered(Conversation.objects.create(owner=bob).ask("Mine?"))
    message = {"stranger": long[3].pk, "owner with nonsense": "x"}.get(who, other.pk)
    assert client.post(f"/c/{conversation.pk}/{what}/", {"message": message}).status_code == 404
    assert Message.objects.count() == 8
