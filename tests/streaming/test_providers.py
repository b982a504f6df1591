"""What providers promise, with the real openai client against a real HTTP server."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pytest_django import Settings

from streaming import openai_provider
from streaming.completions import Delta, Finish, ProviderError
from streaming.frames import REASONING, TEXT
from streaming.openai_provider import OpenAIProvider, retry_after
from streaming.pace import Rest
from streaming.providers import DemoProvider, Provider, provider_from_settings
from tests.modelserver import Gate, ModelServer, Script, expected_text

KEY = "sk-test-0123456789"
# What a test waits for at most; nothing here takes longer than a moment.
SOON_S = 5


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture
async def provider(server: ModelServer) -> AsyncIterator[OpenAIProvider]:
    made = OpenAIProvider(server.url, KEY)
    yield made
    await made.close()


def ask(prompt: str = "Hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    return {
        "model": "test-model",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }


def directive(**script: Any) -> dict[str, Any]:
    return ask(json.dumps(script))


def no_rest(source: asyncio.ReadTransport) -> None:
    """As where there is time to spare."""


def pause(source: asyncio.ReadTransport) -> None:
    """As under load, until a turn that never comes."""
    source.pause_reading()


def rest(source: asyncio.ReadTransport) -> None:
    """As under load, after each read."""

    def read_on() -> None:
        if not source.is_closing():
            source.resume_reading()

    source.pause_reading()
    asyncio.get_running_loop().call_later(0.005, read_on)


class Answer:
    """All that one attempt gave, its failure included."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.finish: Finish | None = None
        self.error: ProviderError | None = None

    def said(self, kind: str = TEXT) -> str:
        return "".join(delta.text for delta in self.deltas if delta.kind == kind)

    @property
    def failure(self) -> ProviderError:
        assert self.error is not None
        return self.error


async def collect(provider: Provider, request: dict[str, Any], rest: Rest = no_rest) -> Answer:
    answer = Answer()
    try:
        async for item in provider.stream(request, rest):
            assert answer.finish is None, "something came after the finish"
            if isinstance(item, Finish):
                answer.finish = item
            else:
                answer.deltas.append(item)
    except ProviderError as error:
        answer.error = error
    return answer


async def test_an_answer_arrives_whole_with_its_finish(provider: OpenAIProvider) -> None:
    answer = await collect(provider, directive(text="Hello, wörld 🙂!", chunk=3))
    assert answer.said() == "Hello, wörld 🙂!"
    assert answer.finish is not None
    assert answer.finish.finish_reason == "stop"
    assert answer.finish.usage == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_the_request_reaches_the_server_exactly(server: ModelServer, provider: OpenAIProvider) -> None:
    request = ask(temperature=0.2, max_tokens=50, vendor_option={"x": [1]})
    await collect(provider, request)
    assert server.requests[0].body == request
    assert server.requests[0].authorization == f"Bearer {KEY}"


async def test_each_delta_is_handed_out_before_the_next_is_written(
    server: ModelServer, provider: OpenAIProvider
) -> None:
    gate = Gate()
    server.script(Script(text="one two three", gate=gate))
    stream = provider.stream(ask(), no_rest)
    for expected in ("one", " two", " three"):
        gate.open(1)
        assert await asyncio.wait_for(anext(stream), SOON_S) == Delta(TEXT, expected)
    assert isinstance(await asyncio.wait_for(anext(stream), SOON_S), Finish)
    await stream.aclose()


@pytest.mark.parametrize(
    "form",
    [
        {"network_chunk": 1, "text": "Grüße 🙂 你好", "chunk": 2},
        {"network_chunk": 7, "crlf": True, "comments": True, "text": "Grüße 🙂 你好"},
        {"surrogates": True, "text": "a🙂b👨‍👩‍👧c"},
        {"surrogates": True, "network_chunk": 3, "text": "🙂🚀", "chunk": 1},
        {"json": True, "text": "all at once"},
        {"usage": False, "text": "no usage"},
        {"done": False, "text": "no done"},
        {"finish_reason": None, "text": "no finish reason"},
        {"words": 300},
        {"size": 300_000},
    ],
)
async def test_every_form_of_answer_gives_the_text_meant(provider: OpenAIProvider, form: dict[str, Any]) -> None:
    answer = await collect(provider, directive(**form))
    assert answer.said() == expected_text(form)
    assert answer.finish is not None
    assert answer.finish.finish_reason == form.get("finish_reason", "stop")
    assert (answer.finish.usage is None) == (form.get("usage") is False)


async def test_reasoning_comes_apart_from_the_text(provider: OpenAIProvider) -> None:
    answer = await collect(provider, directive(text="so", reasoning="let me see"))
    assert (answer.said(REASONING), answer.said()) == ("let me see", "so")
    assert [delta.kind for delta in answer.deltas] == sorted(delta.kind for delta in answer.deltas)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"cut_after": 2}, "cut"),
        ({"cut_after": 2, "in_line": True}, "cut"),
        ({"cut_after": 2, "reset": True}, "cut"),
        ({"clean_end_after": 2}, "cut"),
        ({"garbage_after": 2}, "broken"),
        ({"error_after": 2}, "model_error"),
    ],
)
async def test_an_answer_that_breaks_is_retriable_and_its_beginning_is_kept(
    provider: OpenAIProvider, fault: dict[str, Any], code: str
) -> None:
    answer = await collect(provider, directive(text="one two three", **fault))
    assert answer.said() == "one two"
    assert answer.finish is None
    assert (answer.failure.code, answer.failure.retriable) == (code, True)


async def test_a_cut_before_the_first_word_is_retriable(provider: OpenAIProvider) -> None:
    answer = await collect(provider, directive(text="one", cut_after=0))
    assert (answer.deltas, answer.failure.code, answer.failure.retriable) == ([], "cut", True)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_status_that_may_pass_is_retriable_after_the_time_the_server_asks(
    provider: OpenAIProvider, status: int
) -> None:
    failure = (await collect(provider, directive(status=status, retry_after=2.5))).failure
    assert (failure.retriable, failure.retry_after_s) == (True, 2.5)


@pytest.mark.parametrize("status", [304, 400, 401, 402, 403, 404, 413, 418, 422])
async def test_a_status_that_will_not_pass_is_final(provider: OpenAIProvider, status: int) -> None:
    failure = (await collect(provider, directive(status=status, retry_after=2.5))).failure
    assert (failure.retriable, failure.retry_after_s) == (False, None)


@pytest.mark.parametrize("code", ["insufficient_quota", "context_length_exceeded"])
async def test_a_code_that_will_not_pass_is_final_whatever_the_status(provider: OpenAIProvider, code: str) -> None:
    failure = (await collect(provider, directive(status=429, error_code=code))).failure
    assert not failure.retriable


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 500}, {"error_after": 0}])
async def test_what_the_server_said_is_logged_and_not_told(
    provider: OpenAIProvider, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    failure = (await collect(provider, directive(text="x", **fault))).failure
    assert "secret detail" in caplog.text
    assert "secret" not in failure.detail
    assert "127.0.0.1" not in failure.detail


async def test_no_key_is_ever_told_or_logged(
    server: ModelServer, provider: OpenAIProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    failure = (await collect(provider, directive(status=401, error_code=KEY))).failure
    assert "[key]" in caplog.text
    assert KEY not in caplog.text + failure.detail + str(failure)


async def test_a_server_that_failed_answers_the_next_attempt(server: ModelServer, provider: OpenAIProvider) -> None:
    request = directive(text="at last", status=500, fail_times=2)
    answers = [await collect(provider, request) for _ in range(3)]
    assert [answer.error is not None for answer in answers] == [True, True, False]
    assert answers[2].said() == "at last"
    assert len(server.requests) == 3


async def test_nobody_listening_is_retriable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = OpenAIProvider(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", KEY)
        failure = (await collect(provider, ask())).failure
        assert (failure.code, failure.retriable) == ("unreachable", True)
        await provider.close()


async def test_a_server_that_hangs_up_without_a_word_is_retriable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        provider = OpenAIProvider(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", KEY)
        failure = (await collect(provider, ask())).failure
        assert (failure.code, failure.retriable) == ("unreachable", True)
        await provider.close()


async def test_a_server_that_does_not_speak_http_is_retriable() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as listening:
        provider = OpenAIProvider(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", KEY)
        assert (await collect(provider, ask())).failure.retriable
        await provider.close()


async def test_a_server_that_does_not_accept_within_the_limit_is_retriable(settings: Settings) -> None:
    settings.LLM_CONNECT_S = 0.2
    with socket.socket() as full:
        # A queue of connections that is full and never emptied: the next one waits for an answer to its SYN.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        provider = OpenAIProvider(f"http://127.0.0.1:{full.getsockname()[1]}/v1", KEY)
        failure = (await asyncio.wait_for(collect(provider, ask()), SOON_S)).failure
        assert (failure.code, failure.retriable) == ("unreachable", True)
        await provider.close()
        for one in waiting:
            one.close()


async def test_an_address_that_is_none_is_final() -> None:
    provider = OpenAIProvider("localhost:11434", "")
    failure = (await collect(provider, ask())).failure
    assert (failure.code, failure.retriable) == ("bad_address", False)
    await provider.close()


@pytest.mark.parametrize("script", [Script(text="one two", silence_after=1), Script(first_delay_s=60)])
async def test_cancelling_closes_the_request_at_once(
    server: ModelServer, provider: OpenAIProvider, script: Script
) -> None:
    server.script(script)
    task = asyncio.create_task(collect(provider, ask()))
    asked = await server.asked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(asked.gone.wait(), 1)


@pytest.mark.parametrize("rest", [no_rest, pause])
async def test_closing_the_stream_closes_the_request_at_once(
    server: ModelServer, provider: OpenAIProvider, rest: Rest
) -> None:
    server.script(Script(text="one two", silence_after=1))
    stream = provider.stream(ask(), rest)
    assert await anext(stream) == Delta(TEXT, "one")
    await stream.aclose()
    await asyncio.wait_for(server.requests[0].gone.wait(), 1)


async def test_closing_the_stream_in_the_midst_of_a_flood_closes_the_request_at_once(
    server: ModelServer, provider: OpenAIProvider
) -> None:
    server.script(Script(size=50_000_000))
    stream = provider.stream(ask(), no_rest)
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(server.requests[0].gone.wait(), 1)


async def test_a_finish_reason_is_enough_when_the_server_then_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_provider, "AFTER_FINISH_S", 0.05)

    async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        writer.write(head + b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}\n\n')
        await reader.read()
        writer.close()

    async with await asyncio.start_server(linger, "127.0.0.1", 0) as listening:
        provider = OpenAIProvider(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", KEY)
        answer = await asyncio.wait_for(collect(provider, ask()), SOON_S)
        assert (answer.said(), answer.finish) == ("a", Finish("length", None))
        await provider.close()


@pytest.mark.parametrize("form", [{}, {"network_chunk": 7}, {"crlf": True, "comments": True}, {"size": 100_000}])
async def test_a_connection_that_rests_gives_the_same_answers_and_is_used_again(
    server: ModelServer, provider: OpenAIProvider, form: dict[str, Any]
) -> None:
    wish = {"words": 30, "delay_s": 0.001, **form}
    answers = [await collect(provider, directive(**wish), rest) for _ in range(2)]
    assert [answer.said() for answer in answers] == [expected_text(wish)] * 2
    assert all(answer.finish for answer in answers)
    assert len({asked.peer for asked in server.requests}) == 1


async def test_a_connection_that_has_more_to_give_never_rests(server: ModelServer, provider: OpenAIProvider) -> None:
    """The transport may have paused it, and would not know that another resumed it."""

    def rest(source: asyncio.ReadTransport) -> None:
        assert source.is_reading()

    said = ""
    async for item in provider.stream(directive(size=2_000_000, chunk=20_000), rest):
        said += item.text if isinstance(item, Delta) else ""
        await asyncio.sleep(0.001)  # As a log that is full: meanwhile the transport reads on until it has enough.
    assert said == expected_text({"size": 2_000_000})


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server on 127.0.0.1 needs for TLS, and the file by which clients trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, secret)
    return context, certificate


async def test_an_encrypted_connection_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop drops what has come and is not decrypted when the other end closes it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    event = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for data in (head, event % (b"one ", b"null"), event % (b"two", b'"stop"')):
            writer.write(data)
            await heard.acquire()
        writer.close()

    context, certificate = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    heard = asyncio.Semaphore(1)
    rests: list[asyncio.ReadTransport] = []
    async with await asyncio.start_server(speak, "127.0.0.1", 0, ssl=context) as listening:
        provider = OpenAIProvider(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", KEY)
        said = []
        async for item in provider.stream(ask(), rests.append):
            said.append(item)
            heard.release()
        await provider.close()
    assert said == [Delta(TEXT, "one "), Delta(TEXT, "two"), Finish("stop", None)]
    assert rests == []


async def test_a_connection_that_broke_while_it_rested_is_seen_to_be(
    server: ModelServer, provider: OpenAIProvider
) -> None:
    answer = await collect(provider, directive(text="one two three", cut_after=2, reset=True), rest)
    assert answer.failure.code == "cut"
    assert "one two three".startswith(answer.said())


async def test_the_body_is_read_where_the_transport_of_the_sdk_reads_it(
    server: ModelServer, provider: OpenAIProvider
) -> None:
    """Says so when a new version of the SDK keeps it elsewhere: answers then take the longer way, which is as good."""
    async with provider._ask(ask()) as response:
        source = openai_provider._source(response.http_response)
        assert source is not None
        assert str(source.url).startswith(server.url)


@pytest.fixture
def longer_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is read through all layers of the SDK."""
    monkeypatch.setattr(openai_provider, "_source", lambda _: None)


@pytest.mark.usefixtures("longer_way")
async def test_the_longer_way_gives_the_same_answers(server: ModelServer, provider: OpenAIProvider) -> None:
    whole = [await collect(provider, directive(text="one two", network_chunk=9)) for _ in range(2)]
    cut = await collect(provider, directive(text="one two three", cut_after=2))
    assert [answer.said() for answer in [*whole, cut]] == ["one two", "one two", "one two"]
    assert whole[1].finish is not None
    assert cut.failure.code == "cut"
    assert len({asked.peer for asked in server.requests}) == 1


@pytest.mark.usefixtures("longer_way")
async def test_the_longer_way_ends_the_request_as_soon(server: ModelServer, provider: OpenAIProvider) -> None:
    server.script(Script(text="one two", silence_after=1))
    stream = provider.stream(ask(), no_rest)
    assert await anext(stream) == Delta(TEXT, "one")
    await stream.aclose()
    await asyncio.wait_for(server.requests[0].gone.wait(), 1)


async def test_a_body_that_is_compressed_unasked_is_understood() -> None:
    body = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"

    async def squeeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + gzip.compress(body))
        writer.close()

    async with await asyncio.start_server(squeeze, "127.0.0.1", 0) as listening:
        provider = OpenAIProvider(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", KEY)
        answer = await asyncio.wait_for(collect(provider, ask()), SOON_S)
        assert (answer.said(), answer.finish) == ("a", Finish("stop", None))
        await provider.close()


async def test_a_connection_is_used_again(server: ModelServer, provider: OpenAIProvider) -> None:
    for _ in range(5):
        await collect(provider, ask())
    assert len({asked.peer for asked in server.requests}) == 1


async def test_more_streams_than_a_pool_holds_by_default_run_at_once(
    server: ModelServer, provider: OpenAIProvider
) -> None:
    gate = Gate()
    server.default = Script(text="one two", gate=gate)
    tasks = [asyncio.create_task(collect(provider, ask(str(number)))) for number in range(150)]
    await asyncio.wait_for(server.asked(150), 30)
    gate.open()
    answers = await asyncio.gather(*tasks)
    assert {answer.said() for answer in answers} == {"one two"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-4"}, 0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:00 GMT"}, None),
    ],
)
def test_the_time_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_the_time_to_wait_may_be_a_date() -> None:
    seconds = retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert seconds is not None
    assert 28 <= seconds <= 31


async def test_the_settings_choose_the_provider(settings: Settings) -> None:
    chosen = {("", ""): DemoProvider, ("sk", ""): OpenAIProvider, ("", "http://127.0.0.1:9/v1"): OpenAIProvider}
    for (settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL), kind in chosen.items():
        provider = provider_from_settings()
        assert type(provider) is kind
        await provider.close()


async def test_a_server_without_a_key_is_asked_without_a_secret(server: ModelServer, settings: Settings) -> None:
    settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "", server.url
    provider = provider_from_settings()
    assert (await collect(provider, ask())).said() == server.default.text
    assert server.requests[0].authorization == "Bearer none"
    await provider.close()


async def test_the_demo_answers_at_its_rate(settings: Settings) -> None:
    settings.DEMO_DELTAS_PER_S = 200
    begun = time.monotonic()
    answer = await collect(DemoProvider(), ask("plain"))
    assert time.monotonic() - begun >= len(answer.deltas) / 200
    assert "demo model" in answer.said()
    assert answer.finish is not None
    assert answer.finish.finish_reason == "stop"


async def test_the_demo_at_full_speed_lets_others_run(settings: Settings) -> None:
    settings.DEMO_DELTAS_PER_S = 0
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others(), name="others")
    answer = await collect(DemoProvider(), ask("long 2000"))
    task.cancel()
    assert turns >= len(answer.deltas) > 2000


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The model server as a process of its own."""
    command = [sys.executable, "-m", "tests.modelserver", "--for-s", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env=os.environ) as running:
        assert running.stdout is not None
        yield running, json.loads(running.stdout.readline())["url"]
        running.kill()


async def test_the_model_server_runs_as_a_process_and_tells_what_it_was_asked(
    process: tuple[subprocess.Popen[bytes], str],
) -> None:
    running, url = process
    provider = OpenAIProvider(url, KEY)
    script = {"words": 30, "delay_s": 0.001}
    assert (await collect(provider, directive(**script))).said() == expected_text(script)
    await provider.close()
    async with aiohttp.ClientSession() as client, client.get(url.replace("/v1", "/requests")) as response:
        (asked,) = await response.json()
    assert (asked["deltas"], asked["finished"], asked["gone_at"]) == (30, True, None)
    running.send_signal(signal.SIGTERM)
    assert running.wait(SOON_S) == 0


def test_the_model_server_ends_by_itself() -> None:
    command = [sys.executable, "-m", "tests.modelserver", "--for-s", "0.1"]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=20, check=False).returncode == 0


def test_a_script_is_its_directive() -> None:
    script = Script(text="a b", chunk=1, fail_times=2)
    fields = {name: value for name, value in asdict(script).items() if name != "gate"}
    assert Script(**json.loads(json.dumps(fields))) == script
