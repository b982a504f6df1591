"""One OpenTelemetry span per generation, where the site's extra `opentelemetry` is installed; without it, nothing.

Only the API is used: who wants the spans sets a provider up, as `opentelemetry-instrument` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

try:
    from opentelemetry import trace
except ImportError:
    trace = None  # type: ignore[assignment]

Tell = Callable[[Mapping[str, str | int]], None]


@contextmanager
def span(name: str, about: Mapping[str, str | int]) -> Iterator[Tell]:
    """A span with these attributes, and what adds more of them."""
    if trace is None:
        yield lambda more: None
        return
    with trace.get_tracer("chatsite").start_as_current_span(name, attributes=dict(about)) as begun:
        yield lambda more: begun.set_attributes(dict(more))
