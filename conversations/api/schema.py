"""What the OpenAPI schema says about every operation alike, and about the one that is not rest framework's."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView

from conversations.api.authentication import BearerAuthentication, SessionAuthentication
from conversations.api.serializers import IDEMPOTENCY_KEY, ErrorOutput

View = TypeVar("View", bound=Callable[..., Any])
ANYWHERE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
KEY_HEADER = OpenApiParameter(
    IDEMPOTENCY_KEY,
    {"type": "string", "format": "uuid"},
    OpenApiParameter.HEADER,
    description="The same key again gives the first answer back and asks nothing.",
)
EVENTS_PATH = "/api/streams/{id}/events/"
EVENTS: dict[str, Any] = {
    "operationId": "streams_events",
    "summary": "Follow a stream as server-sent events",
    "description": "The native frames, each with its seq as the event's id, behind `after` and up to the `end`.",
    "tags": ["streams"],
    "parameters": [
        {"in": "path", "name": "id", "required": True, "schema": {"type": "string", "format": "uuid"}},
        {"in": "query", "name": "after", "schema": {"type": "integer", "minimum": 0, "default": 0}},
        {"in": "header", "name": "Last-Event-ID", "schema": {"type": "integer", "minimum": 0}},
    ],
    "security": [{"token": []}, {"session": []}],
}
EVENTS_RESPONSES: dict[str, Any] = {
    "200": {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    "204": {"description": "A reconnecting client has everything already"},
}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def operation(
    summary: str, gives: dict[Any, Any], *, takes: Any = None, refuses: tuple[int, ...] = (), **more: Any
) -> Callable[[View], View]:
    """Describe one method of a view: what it takes and gives, and the statuses it refuses with in the one shape."""
    refusals = (*(() if more.get("auth") == [] else ANYWHERE), *refuses)
    responses = gives | {
        int(status): OpenApiResponse(ErrorOutput, description=HTTPStatus(status).phrase) for status in refusals
    }
    return extend_schema(summary=summary, request=takes, responses=responses, **more)


def add_events(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A POSTPROCESSING_HOOK: the events are a plain async view, which drf-spectacular does not see."""
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorOutput"}}}
    refusals = {
        str(int(status)): {"description": status.phrase, "content": shape}
        for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
    }
    result["paths"][EVENTS_PATH] = {"get": EVENTS | {"responses": EVENTS_RESPONSES | refusals}}
    return result


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI from our own files and without inline script, so that it works under the site's CSP and offline."""

    url_name = "api-schema"
    template_name = "api/docs.html"
