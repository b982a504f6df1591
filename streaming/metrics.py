"""What this process tells Prometheus: counters and histograms that the engine and the hub keep up, and figures of the
database that are read when somebody asks.

They are kept up once a commit, broadcast or event, never for a delta or a reader.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import Error
from django.db.models import Count
from django.utils import timezone
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.background import let_go
from streaming.models import LIVE, Outcome, Stream

logger = logging.getLogger(__name__)
QUICK_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
PATIENT_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

MOST_UNSORTED = 100


class LateHistogram(Histogram):
    """One without labels that sorts what it was told once somebody asks, or after a hundred values: to take the locks
    and find the buckets at once is a twentieth of all that a word costs which comes alone."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._unsorted: deque[float] = deque()

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._unsorted.append(amount)
        if len(self._unsorted) > MOST_UNSORTED:
            self._sort()

    def collect(self) -> Iterable[Metric]:
        self._sort()
        return super().collect()

    def _sort(self) -> None:
        with suppress(IndexError):  # Threads may share this.
            while True:
                super().observe(self._unsorted.popleft())


ENDED = Counter("chatsite_streams_ended", "Streams this process ended.", ["status"])
RETRIES = Counter("chatsite_retries", "Attempts that failed and were followed by another.", ["code"])
TAKEOVERS = Counter("chatsite_lease_takeovers", "Streams begun by another process and continued by this one.")
LEASES_LOST = Counter("chatsite_leases_lost", "Streams that another process took from this one, or that were deleted.")
GENERATING = Gauge("chatsite_generating", "Streams this process writes now.")
FIRST_TEXT_S = Histogram(
    "chatsite_first_token_seconds", "From the prompt to its answer's first committed words.", buckets=PATIENT_S
)
STREAM_S = Histogram("chatsite_stream_seconds", "From the prompt to the end of its answer.", buckets=PATIENT_S)

ADDED_S = LateHistogram(
    "chatsite_added_latency_seconds",
    "Of each commit, how long its oldest words waited from being read to their broadcast.",
    buckets=QUICK_S,
)
COMMIT_S = LateHistogram("chatsite_commit_seconds", "How long a group commit took.", buckets=QUICK_S)
COMMIT_ROWS = LateHistogram("chatsite_commit_rows", "Rows of a group commit.", buckets=COUNTS)
COMMIT_FAILURES = Counter("chatsite_commit_failures", "Group commits that the database refused or did not confirm.")
BROADCAST_FAILURES = Counter("chatsite_broadcast_failures", "Commits whose broadcast failed, or was not tried.")

READERS = Gauge("chatsite_readers", "Connections that follow answers in this process.")
HEALED_GAPS = Counter("chatsite_healed_gaps", "Times the hub found messages missing and read the database instead.")
CATCH_UP_READS = Counter("chatsite_catch_up_reads", "Pages of a log read for readers that were behind.")


def committed(took_s: float, rows: int) -> None:
    COMMIT_S.observe(took_s)
    COMMIT_ROWS.observe(rows)


def ended(stream: Stream, outcome: Outcome, seq: int) -> dict[str, str | int]:
    """Count and log the end of a stream that this process wrote; returns what it was like."""
    took_s = max((timezone.now() - stream.created_at).total_seconds(), 0)
    ENDED.labels(outcome.status).inc()
    STREAM_S.observe(took_s)
    how: dict[str, str | int] = {"status": outcome.status, "seq": seq}
    if outcome.error:
        how["error"] = outcome.error["code"]
    logger.info("stream ended", extra={"stream": str(stream.pk), "took_s": round(took_s, 3), **how})
    return how


class InDatabase(Collector):
    """Figures of the whole site, the same from every process. They look at unfinished streams only, by their index."""

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("chatsite_database_up", "Whether the database answered.")
        yield GaugeMetricFamily("chatsite_streams", "Unfinished streams.", labels=["status"])
        yield GaugeMetricFamily("chatsite_queue_depth", "Streams that nobody works on: waiting, or left by a process.")

    def collect(self) -> Iterator[Metric]:
        up, streams, queue = self.describe()
        try:
            counts = live_counts()
            queue.add_sample(queue.name, {}, queue_depth())
            for status, count in counts.items():
                streams.add_sample(streams.name, {"status": status}, count)
        except Error:
            logger.warning("the database could not be asked for its figures", exc_info=True)
        up.add_sample(up.name, {}, len(queue.samples))
        # The server of a worker's metrics has a thread, and with it a connection, for each time it is asked.
        let_go()
        yield from (up, streams, queue)


def live_counts() -> dict[str, int]:
    """How many streams are `pending` and `streaming`."""
    counted = Stream.objects.live().order_by().values_list("status").annotate(Count("pk"))
    return {str(status): 0 for status in LIVE} | dict(counted)


def queue_depth() -> int:
    # `live` says nothing new to a person, but to SQLite that the index of unfinished streams will do.
    return Stream.objects.live().claimable().count()


REGISTRY.register(InDatabase())


@contextmanager
def served() -> Iterator[None]:
    """Let Prometheus ask this process on a port of its own meanwhile, if METRICS_PORT names one."""
    if not settings.METRICS_PORT:
        yield
        return
    try:
        server, thread = start_http_server(settings.METRICS_PORT, settings.METRICS_HOST)
    except OSError:
        # Metrics are worth no answer.
        logger.exception("no metrics: METRICS_PORT %d cannot be listened on", settings.METRICS_PORT)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
