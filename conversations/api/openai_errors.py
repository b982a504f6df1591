"""Refusals under /v1/ in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from django.http import JsonResponse


class ApiError(Exception):
    """A refusal; `headers` go out with it. `code` is stable for programs, the message is for people."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"message": message, "type": kind, "param": param, "code": code}


def refuse(refused: ApiError) -> JsonResponse:
    return JsonResponse({"error": refused.body}, status=refused.status, headers=refused.headers)
