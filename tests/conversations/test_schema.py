"""Everything the schema says, tried at random: no call breaks the site, and no answer is one that is not documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from conversations.models import Token
from streaming.models import Stream
from tests.conftest import add

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]


CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
everything = schemathesis.openapi.from_wsgi("/api/schema/?format=json", WSGIHandler())
# Endless by design, and served by ASGI only: tests/outside/test_surfaces.py.
schema = everything.exclude(path_regex="/events/$")


@pytest.fixture(autouse=True)
def _as_the_test_client_does(settings: Any, db: None) -> Iterator[None]:
    """The requests are inside the test's transaction, so its connection must outlive them, however long one is made."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    settings.THROTTLE_PROMPTS = settings.THROTTLE_VISITORS = ""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def alices(running_stream: Stream, alices_token: str) -> dict[str, Any]:
    """What of hers a case may be about, so that not every random id is nobody's."""
    add(running_stream, 3, "!")
    reply = running_stream.message
    return {
        "token": alices_token,
        "conversations": reply.conversation_id,
        "messages": reply.parent_id,
        "streams": running_stream.pk,
        "tokens": Token.objects.get().pk,
    }


# Without parameters, pytest gives the tests of all operations one name, and pytest-xdist runs one test of a name.
@pytest.mark.parametrize("checks", [CHECKS], ids=["as documented"])
@schema.parametrize()
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_call_breaks_the_site_or_is_answered_as_nobody_was_told(
    case: Any, alices: dict[str, Any], checks: tuple[Any, ...]
) -> None:
    kind = case.operation.path.split("/")[2]
    if "id" in case.path_parameters and kind != "tokens":
        case.path_parameters["id"] = str(alices[kind])
    case.call_and_validate(headers={"Authorization": f"Bearer {alices['token']}"}, checks=checks)
