"""Speaks to any OpenAI-compatible server: request and errors are the SDK's business, reading the body is ours."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import aiohttp
import httpx2
import openai
from django.conf import settings

from streaming.completions import Decoder, Delta, Finish, ProviderError
from streaming.pace import Rest

logger = logging.getLogger(__name__)

# More than a process can serve: the engine's cap on concurrent streams is the one that counts. The default is 100.
MAX_CONNECTIONS = 10_000
# Idle connections are closed before common servers and proxies close them, which would fail the next request.
KEEPALIVE_S = 4.0
# What follows the finish reason (usage, [DONE]) and what follows [DONE] (the end of the body, after which the
# connection can be used again) come at once or not at all.
AFTER_FINISH_S = 5.0
AFTER_DONE_S = 0.2
# What reading a body can raise: the SDK's transport does not translate every error of aiohttp.
TRANSPORT_ERRORS = (httpx2.HTTPError, aiohttp.ClientError, OSError)
# As much is read at once at most: what a flood brings must be committed in between.
READ_BYTES = 16_384
RETRIABLE_STATUSES = frozenset({408, 409, 429})
STATUS_DETAILS = {
    400: ("bad_request", "The model's server did not accept this request."),
    401: ("unauthorized", "The model's server did not accept this site's key."),
    402: ("no_credit", "This site has no credit left at the model's server."),
    403: ("forbidden", "The model's server does not let this site use the model."),
    404: ("not_found", "The model's server does not know the model, or its address is wrong."),
    408: ("overloaded", "The model's server took too long."),
    413: ("too_long", "The conversation is too long for this model."),
    422: ("bad_request", "The model's server did not accept this request."),
    429: ("rate_limited", "The model's server has too many requests at the moment."),
    503: ("overloaded", "The model's server is overloaded."),
}
# Codes of OpenAI's error bodies that tell more than the status does; none of them is worth another attempt.
FINAL_CODES = {
    "context_length_exceeded": STATUS_DETAILS[413],
    "insufficient_quota": STATUS_DETAILS[402],
}

Read = Callable[[], Awaitable[bytes]]


class OpenAIProvider:
    """Streams chat completions from an OpenAI-compatible server. Belongs to the loop of its first request.

    Reads raw bytes: the SDK's event objects would cost several times as much per delta as everything else here.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        self._api_key = api_key
        # Silence has no limit here: the generation counts it, on every way a model can be silent.
        timeout = httpx2.Timeout(None, connect=settings.LLM_CONNECT_S)
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_S)
        self._client = openai.AsyncOpenAI(
            # Local servers want no key, but the SDK insists on one.
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            # The address is the site's choice; the server behind it does not get to choose another.
            http_client=openai.DefaultAioHttpClient(timeout=timeout, limits=limits, follow_redirects=False),
        )

    async def stream(self, request: dict[str, Any], rest: Rest) -> AsyncGenerator[Delta | Finish, None]:
        decoder = Decoder()
        try:
            async with self._ask(request) as response, _reading(response.http_response) as read:
                source = _source(response.http_response)
                wire = _wire(source)
                while data := await read():
                    said = decoder.feed(data)
                    ends = decoder.complete or decoder.finish_reason
                    # Not what has more to give: aiohttp may have paused it, and must be who resumes it.
                    if wire and not ends and len(data) < READ_BYTES and source and source.connection:
                        rest(wire)
                    for delta in said:
                        yield delta
                    if ends:
                        break
                for delta in await _remainder(read, decoder):
                    yield delta
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.APIConnectionError as error:
            raise _unreachable(error) from error
        except (openai.OpenAIError, *TRANSPORT_ERRORS) as error:
            logger.warning("The connection to the model's server broke: %r", error)
            raise ProviderError("cut", "The connection to the model's server broke.", retriable=True) from error
        for delta in decoder.close():
            yield delta
        yield decoder.finish()

    async def close(self) -> None:
        await self._client.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        """The SDK's context manager around the open response. The body sent is `request` exactly."""
        rest = {name: value for name, value in request.items() if name not in ("model", "messages", "stream")}
        return self._client.chat.completions.with_streaming_response.create(
            model=request["model"],
            messages=request["messages"],
            stream=True,
            extra_body=rest,
            # A compressed stream comes in bursts.
            extra_headers={"Accept-Encoding": "identity"},
        )

    def _refusal(self, error: openai.APIStatusError) -> ProviderError:
        status = error.status_code
        said = str(error.body if error.body is not None else error.message)[:2000]
        if self._api_key:
            said = said.replace(self._api_key, "[key]")
        logger.warning("The model's server answered with status %s: %s", status, said)
        code = str(error.code)
        if code in FINAL_CODES:
            return ProviderError(*FINAL_CODES[code], retriable=False)
        retriable = status in RETRIABLE_STATUSES or status >= 500
        kind = ("unavailable", "The model's server failed.") if retriable else STATUS_DETAILS[400]
        wait_s = retry_after(error.response.headers) if retriable else None
        return ProviderError(*STATUS_DETAILS.get(status, kind), retriable=retriable, retry_after_s=wait_s)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait, from retry-after-ms or Retry-After (seconds or an HTTP date)."""
    seconds = _number(headers.get("retry-after-ms"), 1000)
    if seconds is None:
        seconds = _number(headers.get("retry-after"), 1)
    if seconds is None:
        date = email.utils.parsedate_tz(headers.get("retry-after"))
        with suppress(ValueError, OverflowError):
            seconds = email.utils.mktime_tz(date) - time.time() if date else None
    return None if seconds is None else max(0.0, seconds)


def _number(value: str | None, divisor: float) -> float | None:
    try:
        number = float(value or "") / divisor
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _unreachable(error: openai.APIConnectionError) -> ProviderError:
    logger.warning("The model's server cannot be reached: %r", error.__cause__)
    if isinstance(error.__cause__, httpx2.UnsupportedProtocol):
        return ProviderError("bad_address", "The address of the model's server is not a web address.", retriable=False)
    return ProviderError("unreachable", "The model's server cannot be reached.", retriable=True)


@asynccontextmanager
async def _reading(response: httpx2.Response) -> AsyncIterator[Read]:
    """What waits for more of the body and returns it: nothing once it has ended."""
    source = _source(response)
    # A server that compresses against the request is still understood.
    if source is None or response.headers.get("content-encoding"):
        async with aclosing(response.aiter_bytes()) as body:
            yield partial(anext, body, b"")
    else:
        yield partial(source.content.read, READ_BYTES)


def _wire(source: aiohttp.ClientResponse | None) -> asyncio.Transport | None:
    """The connection, which is another's once the body has ended. None if it is encrypted: uvloop loses what such a one
    has not decrypted when its other end closes it."""
    wire = source.connection.transport if source and source.connection else None
    return None if wire is None or wire.get_extra_info("ssl_object") else wire


def _source(response: httpx2.Response) -> aiohttp.ClientResponse | None:
    """What the SDK's transport reads the body from; None if that is not to be found. Closing `response` closes it.

    The layers in between take a tenth of all the time of reading a delta.
    """
    source = getattr(getattr(response.stream, "_stream", None), "_aiohttp_response", None)
    return source if isinstance(source, aiohttp.ClientResponse) else None


async def _remainder(read: Read, decoder: Decoder) -> list[Delta]:
    """What comes after the finish reason: the answer is whole, so this is neither waited for long nor can it fail."""
    deltas: list[Delta] = []
    if decoder.failure:
        return deltas
    loop = asyncio.get_running_loop()
    with suppress(*TRANSPORT_ERRORS):
        async with asyncio.timeout(AFTER_DONE_S if decoder.complete else AFTER_FINISH_S) as limit:
            while data := await read():
                if not decoder.complete:
                    deltas += decoder.feed(data)
                    if decoder.complete:
                        limit.reschedule(loop.time() + AFTER_DONE_S)
    return deltas
