"""Who a request of the API comes from: a bearer token, else the session of a logged-in browser with its CSRF token."""

from __future__ import annotations

from rest_framework import authentication, exceptions
from rest_framework.request import Request

from conversations.access import bearer_of
from conversations.models import Token, User


class BearerAuthentication(authentication.BaseAuthentication):
    """A token that is sent but not good is an error, also beside a good session: it must not pass for somebody else."""

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        header: str = request.headers.get("authorization", "")
        secret = bearer_of([(b"authorization", header.encode("latin1", "replace"))])
        if secret is None:
            return None
        user = Token.objects.user_of(secret)
        if user is None:
            raise exceptions.AuthenticationFailed("This token is not valid.", code="bad_token")
        return user, "bearer"

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class CsrfFailed(exceptions.PermissionDenied):
    default_code = "csrf_failed"


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session; a failed CSRF check has a code of its own."""

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as refused:
            raise CsrfFailed(str(refused.detail)) from refused
