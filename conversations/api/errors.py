"""Refusals of everything under /api/ in one shape: {"code", "detail"} and, where single inputs are at fault, "fields".

`code` is stable for programs, `detail` is for people, `fields` maps an input's name to what is wrong with it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from conversations.api import openai_errors
from conversations.api.parsers import BodyTooLarge
from conversations.models import Refused

REFUSED = {"key_reused": HTTPStatus.UNPROCESSABLE_ENTITY, "unknown_message": HTTPStatus.NOT_FOUND}
NOT_ABOUT_A_FIELD = "non_field_errors"


def body(code: str, detail: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    return {"code": code, "detail": detail} | ({"fields": fields} if fields else {})


def as_api_exception(exc: Exception) -> Exception:
    """What Django and the models raise, as the exception of the API that says the same."""
    if isinstance(exc, ObjectDoesNotExist):
        # The row went between two queries: deleted from another tab.
        return exceptions.NotFound()
    if isinstance(exc, RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(exc, SuspiciousOperation):
        return exceptions.ParseError("This request makes no sense.")
    return exc


def respond(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Rest framework's EXCEPTION_HANDLER; None for what is a fault of this site."""
    if isinstance(exc, Refused):
        usual = HTTPStatus.CONFLICT if exc.wait_s is None else HTTPStatus.TOO_MANY_REQUESTS
        status = REFUSED.get(exc.code, usual)
        return Response(body(exc.code, exc.detail), status=status, headers=exc.retry_after)
    exc = as_api_exception(exc)
    response = exception_handler(exc, context)
    if response is None:
        return None
    if isinstance(exc, exceptions.ValidationError):
        response.data = described(exc.detail)
    elif isinstance(response.data, dict) and "detail" in response.data:
        detail = response.data["detail"]
        response.data = body(getattr(detail, "code", "error"), str(detail))
    return response


def described(problems: Any) -> dict[str, Any]:
    """The body for what rest framework's validation found: a list, or lists by the names of the fields."""
    if not isinstance(problems, dict):
        return body("invalid", " ".join(flat(problems)))
    fields = {str(name): flat(problem) for name, problem in problems.items()}
    general = fields.pop(NOT_ABOUT_A_FIELD, [])
    sentences = general + [f"{name}: {' '.join(texts)}" for name, texts in fields.items()]
    return body("invalid", " ".join(sentences), fields)


def flat(problem: Any) -> list[str]:
    if isinstance(problem, dict):
        return [text for value in problem.values() for text in flat(value)]
    if isinstance(problem, list | tuple):
        return [text for value in problem for text in flat(value)]
    return [str(problem)]


def refuse(request: HttpRequest, status: HTTPStatus, code: str, detail: str) -> JsonResponse | None:
    """A refusal outside rest framework in the shape of the API the address is of; None for pages."""
    if request.path_info.startswith("/v1/"):
        return openai_errors.refuse(openai_errors.ApiError(status, code, detail))
    ours = request.path_info.startswith(("/api/", "/ai/", "/durable/"))
    return JsonResponse(body(code, detail), status=status) if ours else None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    refused = refuse(request, HTTPStatus.BAD_REQUEST, "bad_request", "This request makes no sense.")
    return refused or defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    refused = refuse(request, HTTPStatus.FORBIDDEN, "permission_denied", "You may not do this.")
    return refused or defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    refused = refuse(request, HTTPStatus.NOT_FOUND, "not_found", "Not found.")
    return refused or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    detail = "This site made a mistake. It has been logged."
    refused = refuse(request, HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", detail)
    return refused or defaults.server_error(request)
