"""`/metrics` is for who has the token and for the staff, and the Grafana dashboard asks for metrics that exist."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from chatsite.settings import BASE_DIR
from conversations.models import User

pytestmark = pytest.mark.django_db


def status(client: Client, authorization: str = "") -> int:
    headers = {"Authorization": authorization} if authorization else {}
    return int(client.get("/metrics", headers=headers).status_code)


def test_without_a_token_in_the_settings_no_token_opens_the_metrics(client: Client) -> None:
    assert [status(client), status(client, "Bearer "), status(client, "Bearer x")] == [403, 403, 403]


def test_the_token_opens_the_metrics_and_no_other_does(client: Client, settings: Settings) -> None:
    settings.METRICS_TOKEN = "s3cret"
    assert status(client, "Bearer s3cret") == 200
    assert [status(client), status(client, "Bearer s3cre"), status(client, "Basic s3cret")] == [403, 403, 403]


@pytest.mark.parametrize(("is_staff", "expected"), [(True, 200), (False, 403)])
def test_the_staff_may_read_them_and_other_people_may_not(is_staff: bool, expected: int, client: Client) -> None:
    client.force_login(User.objects.create_user("eve", is_staff=is_staff))
    assert status(client) == expected


def test_prometheus_understands_what_it_is_told(client: Client, settings: Settings) -> None:
    settings.METRICS_TOKEN = "s3cret"
    told = client.get("/metrics", headers={"Authorization": "Bearer s3cret"})
    families = {family.name for family in text_string_to_metric_families(told.content.decode())}
    assert {"chatsite_readers", "chatsite_commit_seconds", "chatsite_queue_depth", "process_cpu_seconds"} <= families
    assert told["Cache-Control"] == "no-store"


def names(metric: Metric) -> set[str]:
    """Of the samples of a metric, as they are asked for."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric.type, [""])
    return {metric.name + ending for ending in endings}


def test_the_grafana_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((BASE_DIR / "docs/grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b(?:chatsite|process)_\w+", query)}
    told = {name for metric in REGISTRY.collect() for name in names(metric)}
    assert len(asked) > 15
    assert asked - told == set()


def test_every_metric_of_ours_is_on_the_grafana_dashboard() -> None:
    dashboard = (BASE_DIR / "docs/grafana.json").read_text()
    ours = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("chatsite_")}
    assert {name for name in ours if name not in dashboard} == set()
