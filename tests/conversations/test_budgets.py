"""Budgets: each limit on every surface, for one person and for all, also when two processes are asked at once."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from chatsite.settings import BASE_DIR
from conversations.budgets import Budget, in_words, too_soon_s
from conversations.models import Conversation, Message, Refused, User
from streaming.models import Stream
from tests import columns

pytestmark = pytest.mark.django_db
LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"THROTTLE_PROMPTS": "1/min"}, "throttled"),
    ({"USER_STREAMS": 1}, "too_many_streams"),
    ({"USER_DAY_CHARS": 4}, "day_spent"),
    ({"THROTTLE_SITE_PROMPTS": "1/min"}, "throttled"),
    ({"SITE_STREAMS": 1}, "too_many_streams"),
    ({"SITE_DAY_CHARS": 4}, "day_spent"),
]
ONE = {"THROTTLE_PROMPTS": "", "USER_STREAMS": 0}


@pytest.fixture(params=LIMITS, ids=lambda limit: next(iter(limit[0])))
def code(request: pytest.FixtureRequest, settings: Settings) -> str:
    """The code under which the second prompt is refused."""
    changes, code = request.param
    for name, value in (ONE | changes).items():
        setattr(settings, name, value)
    return str(code)


def ask(owner: User, text: str = "Why?") -> Message:
    return Conversation.begin(owner, text)


def refused(owner: User, text: str = "Why?") -> Refused:
    with pytest.raises(Refused) as caught:
        ask(owner, text)
    return caught.value


def test_a_second_prompt_is_one_too_many(alice: User, code: str) -> None:
    ask(alice)
    refusal = refused(alice)
    assert refusal.code == code and refusal.wait_s is not None
    assert Message.objects.count() == 2, "what was refused is not stored"


def test_pages_keep_the_prompt_and_say_why(alice: User, at_alices: Client, code: str) -> None:
    ask(alice)
    answer = at_alices.post("/", {"text": "And why?", "key": "", "model": ""})
    assert answer.status_code == 429
    html = answer.content.decode()
    assert "And why?" in html and ("asked too often" in html or "answers being written" in html or "day" in html)


def test_the_api_says_when_to_come_back(alice: User, at_alices: Client, code: str) -> None:
    ask(alice)
    chat = Conversation.objects.create(owner=alice)
    answer = at_alices.post(f"/api/conversations/{chat.pk}/messages/", {"text": "Why?"}, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert int(answer["Retry-After"]) >= 1


def test_openais_api_refuses_as_its_sdks_know_it(alice: User, alices_token: str, code: str) -> None:
    ask(alice)
    headers = {"Authorization": f"Bearer {alices_token}"}
    body = {"model": "demo", "input": "Why?"}
    answer = Client(headers=headers).post("/v1/responses", body, "application/json")
    said = {"day_spent": "insufficient_quota"}.get(code, "rate_limit_exceeded")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, said)
    assert int(answer["Retry-After"]) >= 1


def test_the_ai_sdk_gets_the_reason_as_text(alice: User, at_alices: Client, code: str) -> None:
    ask(alice)
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}
    answer = at_alices.post("/ai/chat", {"id": "c1", "messages": [message]}, "application/json")
    assert answer.status_code == 429 and int(answer["Retry-After"]) >= 1
    assert answer.content.decode().startswith(("You have", "All together have"))


def test_one_persons_limits_are_not_anothers(alice: User, bob: User, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS, settings.USER_STREAMS, settings.USER_DAY_CHARS = "1/min", 1, 4
    ask(alice)
    ask(bob)


def test_the_sites_limits_are_everybodys(alice: User, bob: User, settings: Settings) -> None:
    settings.SITE_STREAMS = 1
    ask(alice)
    assert refused(bob).detail.startswith("All together have 1 answers")


def test_what_was_used_is_regained(alice: User, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS, settings.USER_STREAMS = "2/min", 0
    ask(alice)
    ask(alice)
    assert 29 < (refused(alice).wait_s or 0) <= 30
    Budget.objects.update(prompts_regained_at=timezone.now() + timedelta(seconds=30))
    ask(alice)


def test_an_ended_answer_makes_room_for_another(alice: User, settings: Settings) -> None:
    settings.USER_STREAMS = 1
    ask(alice)
    Stream.objects.update(status="done", finished_at=timezone.now())
    ask(alice)


def test_deleting_what_was_asked_regains_nothing(alice: User, settings: Settings) -> None:
    settings.USER_DAY_CHARS = 4
    ask(alice)
    Conversation.objects.all().remove()
    assert refused(alice).code == "day_spent"


def test_asking_again_with_the_same_key_costs_nothing(alice: User, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    chat, key = Conversation.objects.create(owner=alice), Conversation().pk
    assert chat.ask("Why?", key).pk == chat.ask("Why?", key).pk


def test_the_history_that_is_sent_along_counts(alice: User, settings: Settings) -> None:
    settings.USER_DAY_CHARS = 100
    chat = ask(alice, "a" * 60).conversation
    Stream.objects.update(status="done", text="b" * 10, finished_at=timezone.now())
    with pytest.raises(Refused):
        chat.ask("c")


def test_an_administrator_gives_a_person_other_limits(admin_client: Client, alice: User, settings: Settings) -> None:
    settings.THROTTLE_PROMPTS = "1/min"
    Budget.objects.create(user=alice, prompts_per_min=3)
    assert [ask(alice).role for _ in range(3)] and refused(alice).wait_s
    page = admin_client.get(f"/admin/conversations/user/{alice.pk}/change/").content.decode()
    assert 'name="budget-0-prompts_per_min" value="3"' in page


@pytest.mark.parametrize(
    ("used_s", "cost_s", "wait_s"), [(0, 1, 0), (59, 1, 0), (60, 1, 1), (0, 90, 0), (5, 90, 5), (-9, 1, 0)]
)
def test_the_arithmetic_of_waiting(used_s: int, cost_s: int, wait_s: int) -> None:
    now = timezone.now()
    assert too_soon_s(now + timedelta(seconds=used_s), now, cost_s, 60) == wait_s


@pytest.mark.parametrize(("wait_s", "said"), [(0.2, "1 s"), (119, "119 s"), (150, "3 min"), (50_000, "14 h")])
def test_waiting_is_told_in_words(wait_s: float, said: str) -> None:
    assert in_words(wait_s) == said


RACER = """
import sys, django
django.setup()
from conversations.models import Conversation, Refused, User
alice = User.objects.get(username="alice")
chats = [Conversation.objects.create(owner=alice) for _ in range(10)]
print("ready", flush=True)
sys.stdin.readline()
made = 0
for chat in chats:
    try:
        chat.ask("Why?")
        made += 1
    except Refused:
        pass
print(made)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("limits", [{"THROTTLE_PROMPTS": "7/day"}, {"SITE_STREAMS": "7"}], ids=str)
def test_two_processes_asked_at_once_let_no_more_through(alice: User, limits: dict[str, str]) -> None:
    here = {"DATABASE_URL": columns.url_of(connection.settings_dict["NAME"]), "STREAM_ENGINE": "process"}
    with ExitStack() as stack:
        racers = [stack.enter_context(racing(here | limits)) for _ in range(2)]
        ready = [racer.stdout.readline() for racer in racers if racer.stdout]
        assert ready == ["ready\n"] * 2
        for racer in racers:
            print(file=racer.stdin, flush=True)
        made = [int(racer.communicate(timeout=30)[0]) for racer in racers]
    assert sum(made) == Stream.objects.count() == 7


def racing(variables: dict[str, str]) -> subprocess.Popen[str]:
    """A process that asks ten times as soon as it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", RACER],
        cwd=BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "chatsite.settings"} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
