"""The bytes of a chat completion become the same text however they are cut, written or ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming import completions
from streaming.completions import Decoder, Delta, Finish, ProviderError
from streaming.frames import REASONING, TEXT


def event(data: str | dict[str, Any], end: str = "\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}{end}{end}".encode("utf-8", "surrogatepass")


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": None}], **more}


STOP = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
DONE = event("[DONE]")


def read(*pieces: bytes) -> tuple[list[Delta], Decoder]:
    decoder = Decoder()
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas + decoder.close(), decoder


def text_of(deltas: Iterable[Delta], kind: str = TEXT) -> str:
    return "".join(delta.text for delta in deltas if delta.kind == kind)


def failure_of(*pieces: bytes) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        read(*pieces)[1].finish()
    return caught.value


@given(st.data())
def test_a_body_cut_anywhere_gives_the_same_text(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text(alphabet="aé€🙂\n\r\u2028 ", max_size=5), max_size=6))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    body = b"".join(event(says(text), end) for text in texts) + event("[DONE]", end)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)))) | {0, len(body)})
    deltas, decoder = read(*(body[start:stop] for start, stop in pairwise(cuts)))
    assert text_of(deltas) == "".join(texts)
    assert decoder.finish() == Finish(None, None)


DOCUMENT = b'{"choices":[{"message":{"content":"e"}}]}\n\n'
SCRAPS = (
    event(says("a")),
    event(says("b"), "\r\n"),
    event(says("c"), "\r"),
    event(json.dumps(says("\ud83d"))),
    event({"choices": [{"delta": {"reasoning": "hm"}}]}),
    event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    event({"usage": {"n": 1}}),
    event("{oops"),
    event("[DONE]"),
    b'data: {"choices":\n',
    b'data: {"choices":\ndata: \n',
    b'data: [{"delta":{"content":"d"}}]}\n\n',
    DOCUMENT,
    b": x\n",
    b"data: ",
    b"\n",
    b"\r",
    b"\xef\xbb\xbf",
)


@given(st.lists(st.sampled_from(SCRAPS), max_size=8))
@example([event(says("a")), DOCUMENT])
@example([DOCUMENT, event(says("a"))])
@example([DONE, event(says("a"))])
@example([b'data: {"choices":\ndata: \n', b'data: [{"delta":{"content":"d"}}]}\n\n'])
@example([b'data: {"choices":\n', event(says("a"))])
def test_an_event_that_arrives_alone_says_what_it_says_byte_by_byte(scraps: list[bytes]) -> None:
    assert read_up_to_a_failure(scraps) == read_up_to_a_failure(bytes([byte]) for byte in b"".join(scraps))


def read_up_to_a_failure(pieces: Iterable[bytes]) -> tuple[str, str, Finish | str]:
    """The words, the reasoning, and how it ended, of a body that is read no further than to a failure."""
    decoder = Decoder()
    unread = iter(pieces)
    deltas: list[Delta] = []
    while decoder.failure is None and (piece := next(unread, None)) is not None:
        deltas += decoder.feed(piece)
    deltas += decoder.close()
    try:
        end: Finish | str = decoder.finish()
    except ProviderError as error:
        end = error.code
    return text_of(deltas), text_of(deltas, REASONING), end


@given(st.text(alphabet="a🙂\ud83d\ude00\0", max_size=12), st.data())
def test_halves_of_characters_are_joined_and_what_leaves_can_be_stored(said: str, data: st.DataObject) -> None:
    units = said.encode("utf-16-le", "surrogatepass")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(units) // 2))) | {0, len(units) // 2})
    pieces = [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(cuts)]
    escaped = [event(json.dumps(says(piece))) for piece in pieces]
    deltas, _ = read(*escaped, DONE)
    assert text_of(deltas) == units.decode("utf-16-le", "replace").replace("\0", "\ufffd")
    text_of(deltas).encode()


def test_half_a_character_of_the_text_survives_reasoning_in_between() -> None:
    thought = event({"choices": [{"delta": {"reasoning": "hm"}}]})
    deltas, _ = read(event(json.dumps(says("\ud83d"))), thought, event(json.dumps(says("\ude00"))), DONE)
    assert (text_of(deltas), text_of(deltas, REASONING)) == ("😀", "hm")


def test_deltas_that_arrive_together_leave_together() -> None:
    deltas = Decoder().feed(event(says("Hel")) + event(says("lo")))
    assert deltas == [Delta(TEXT, "Hello")]


def test_each_delta_leaves_as_soon_as_its_event_is_there() -> None:
    decoder = Decoder()
    assert decoder.feed(event(says("a"))[:-1]) == []
    assert decoder.feed(b"\n") == [Delta(TEXT, "a")]
    assert decoder.feed(event(says("b"), "\r")) == [Delta(TEXT, "b")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_told_from_text(name: str) -> None:
    deltas, _ = read(event({"choices": [{"delta": {name: "hm", "content": None}}]}), event(says("so")), DONE)
    assert deltas == [Delta(REASONING, "hm"), Delta(TEXT, "so")]


def test_a_refusal_is_text() -> None:
    deltas, _ = read(event({"choices": [{"delta": {"refusal": "I cannot."}}]}), STOP)
    assert deltas == [Delta(TEXT, "I cannot.")]


@pytest.mark.parametrize(
    "body",
    [
        b'data:{"choices":[{"delta":{"content":"a"}}]}\n\n' + DONE,
        b'\xef\xbb\xbfdata: {"choices":[{"delta":{"content":"a"}}]}\n\n' + DONE,
        b': hello\nevent: x\nid: 1\nretry: 5\n\ndata: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n' + DONE,
        b'\n\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n: ping\n\n' + DONE,
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]',
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'\n {\n"choices":\n\n[{"message":{"content":"a"}}]}',
    ],
)
def test_every_way_of_writing_events_is_understood(body: bytes) -> None:
    deltas, decoder = read(body)
    assert text_of(deltas) == "a"
    decoder.finish()


def test_an_event_of_several_lines_is_whole_when_its_line_ends_are_cut_in_two() -> None:
    body = b'data: {"choices":\r\ndata: [{"delta":{"content":"a"}}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    deltas, decoder = read(*(bytes([byte]) for byte in body))
    assert text_of(deltas) == "a"
    assert decoder.finish() == Finish(None, None)


def test_what_follows_done_is_not_read() -> None:
    deltas, decoder = read(event(says("a")) + DONE + event(says("b")) + event("oops"))
    assert text_of(deltas) == "a"
    assert decoder.finish() == Finish(None, None)


def test_usage_may_come_after_the_finish_and_without_choices() -> None:
    usage = {"prompt_tokens": 7, "details": {"cached": 0, "rate": 0.5}}
    _, decoder = read(event(says("a")), STOP, event({"choices": [], "usage": usage}), DONE)
    assert decoder.finish() == Finish("stop", usage)


def test_usage_keeps_only_figures() -> None:
    usage = {"n": 1, "big": 10**30, "text": "sk-\0", "list": [1], "in\0f": float("inf"), "flag": True}
    _, decoder = read(event(json.dumps({"usage": usage})), STOP)
    expected = {"n": 1, "big": None, "text": None, "list": None, "in\ufffdf": None, "flag": True}
    assert decoder.finish().usage == expected


def test_a_finish_reason_fits_its_column() -> None:
    _, decoder = read(event({"choices": [{"finish_reason": "\0" + "x" * 99}]}))
    assert decoder.finish().finish_reason == "\ufffd" + "x" * 39


def test_a_body_that_ends_before_the_finish_is_cut() -> None:
    assert (failure_of(event(says("a"))).code, failure_of(event(says("a"))).retriable) == ("cut", True)
    assert failure_of(b"").code == "cut"


@pytest.mark.parametrize("tail", [b"data: {", b'data: {"choices": [{"delta": {"content": "hal\n', b"dat", b": x"])
def test_a_body_that_ends_inside_an_event_is_cut_and_keeps_what_came_before(tail: bytes) -> None:
    deltas, _ = read(event(says("a")), tail)
    assert text_of(deltas) == "a"
    assert failure_of(event(says("a")), tail).code == "cut"


def test_after_the_finish_a_torn_tail_does_no_harm() -> None:
    assert read(event(says("a")), STOP, b"data: {")[1].finish() == Finish("stop", None)


@pytest.mark.parametrize("garbage", ["oops", "[1]", "null", '"x"', '{"choices": [}', "[" * 100_000, "1" * 5000, "{}{}"])
def test_what_is_not_a_chunk_is_broken_and_keeps_what_came_before(garbage: str) -> None:
    deltas, decoder = read(event(says("a")) + event(garbage) + event(says("b")))
    assert text_of(deltas) == "a"
    with pytest.raises(ProviderError) as caught:
        decoder.finish()
    assert (caught.value.code, caught.value.retriable) == ("broken", True)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": None},
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 5, "reasoning": ["x"]}}]},
        {"choices": [{"finish_reason": 3}]},
        {"usage": "x"},
        {"error": None},
        {},
    ],
)
def test_a_chunk_without_anything_in_it_is_passed_over(chunk: dict[str, Any]) -> None:
    deltas, decoder = read(event(chunk), event(says("a")), STOP)
    assert text_of(deltas) == "a"
    assert decoder.finish() == Finish("stop", None)


@pytest.mark.parametrize("chunk", [{"error": {"message": "sk-secret"}}, {"object": "error", "message": "sk-secret"}])
def test_an_error_inside_the_answer_is_retriable_and_says_nothing_of_the_server(chunk: dict[str, Any]) -> None:
    for body in (event(says("a")) + event(chunk), json.dumps(chunk).encode()):
        error = failure_of(body)
        assert (error.code, error.retriable) == ("model_error", True)
        assert "secret" not in error.detail


def test_a_whole_completion_is_one_delta() -> None:
    message = {"content": "all of it", "reasoning_content": "hm"}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"n": 1}}, indent=1)
    deltas, decoder = read(*(body[at : at + 7].encode() for at in range(0, len(body), 7)))
    assert deltas == [Delta(REASONING, "hm"), Delta(TEXT, "all of it")]
    assert decoder.finish() == Finish("stop", {"n": 1})


def test_half_of_a_whole_completion_is_cut() -> None:
    assert failure_of(b'{"choices": [{"message": {"content": "all').code == "cut"


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    deltas, _ = read(event(says("a?b")).replace(b"?", b"\xff") + DONE)
    assert text_of(deltas) == "a\ufffdb"


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "LINE_MAX_BYTES", 1000)
    assert failure_of(*[b"data: " + b"x" * 100] * 11).code == "broken"
