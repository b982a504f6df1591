"""The longest conversations open at once and stay smooth.

What is asserted is processor time, which other programs on the machine do not change: on an idle one it is the time
that passes. What passed is printed with it (`make test ARGS="tests/browser/test_speed.py -rP"`).
"""

from __future__ import annotations

import json
from statistics import median

import pytest
from playwright.sync_api import CDPSession, expect

from tests.browser.chat import Chat
from tests.browser.conftest import People
from tests.browser.senses import violations
from tests.processes import Server

LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"
FRAMES = """() => {
    window.frameTimes = [];
    let last = performance.now();
    const step = (now) => { window.frameTimes.push(now - last); last = now; requestAnimationFrame(step); };
    requestAnimationFrame(step);
}"""
SEED = """
from conversations.models import User
from tests.longread import long_conversation
print(long_conversation(User.objects.get(username={name!r})).pk)
"""
# A second on a machine that does nothing else; here other tests run on the other core, and CPU time grows with that.
BUSY_SECOND_MS = 1500
FRAME_MS = 1000 / 60


@pytest.fixture
def long_read(new_person: People, site: Server) -> Chat:
    """A page on a conversation of 200 messages, one of them of 100 kB."""
    chat, name = new_person().signs_up()
    conversation = site.manage("shell", "-v0", "-c", SEED.format(name=name)).split()[-1]
    chat.page.goto(f"/c/{conversation}/")
    expect(chat.page.locator("#messages > .message")).to_have_count(200)
    return chat


@pytest.fixture
def devtools(long_read: Chat) -> CDPSession:
    session = long_read.page.context.new_cdp_session(long_read.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    return session


def page_ms(devtools: CDPSession) -> float:
    """What the main thread has worked for this page so far: script, style, layout and all."""
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"]) * 1000


def server_ms(site: Server) -> float:
    times = site.observed.cpu_times()
    return (times.user + times.system) * 1000


def tell(**figures: float) -> None:
    print(json.dumps({name: round(figure, 1) for name, figure in figures.items()}))  # noqa: T201


def test_200_messages_and_an_answer_of_100_kb_open_within_a_second(
    long_read: Chat, devtools: CDPSession, site: Server
) -> None:
    work = []
    for _ in range(3):
        server = server_ms(site)
        long_read.page.reload()
        server, page = server_ms(site) - server, page_ms(devtools)
        tell(server_ms=server, page_ms=page, passed_ms=long_read.page.evaluate(LOADED))
        work.append(server + page)
    assert min(work) < BUSY_SECOND_MS
    # Colours take axe a minute here, and are those of short pages. Which headings an answer has is the model's choice.
    assert violations(long_read.page, "color-contrast", "heading-order") == []


def test_a_long_page_stays_smooth_while_an_answer_is_written(long_read: Chat, devtools: CDPSession) -> None:
    long_read.connects()
    before = page_ms(devtools)
    long_read.page.evaluate(FRAMES)
    long_read.ask(words=300, delay_s=0.01)
    long_read.page.locator(".reply[data-status=done]").nth(100).wait_for(timeout=40_000)
    worked = page_ms(devtools) - before
    times = sorted(long_read.page.evaluate("window.frameTimes"))
    p95 = times[int(len(times) * 0.95)]
    tell(frames=len(times), median_ms=median(times), p95_ms=p95, longest_ms=times[-1], work_a_frame=worked / len(times))
    assert worked / len(times) < FRAME_MS
