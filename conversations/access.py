"""Who is behind a connection, asked of the database each time: a socket outlives log-outs, tokens and deletions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie
from django.shortcuts import get_object_or_404

from conversations.models import Conversation, Token, User


def person(request: HttpRequest) -> User:
    """The signed-in user of a request that has one."""
    return cast(User, request.user)


def owned(request: HttpRequest, pk: uuid.UUID) -> Conversation:
    """The conversation, if it is theirs who ask; 404 otherwise."""
    return get_object_or_404(Conversation.objects.visible_to(request.user), pk=pk)


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The secret of an `Authorization: Bearer` header; "" when there is such a header without one."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin1").partition(" ")
            if scheme.lower() == "bearer":
                return secret.strip()
    return None


@dataclass(frozen=True, slots=True)
class Access:
    """The credentials a connection came with. Its methods query; call them from a thread."""

    bearer: str | None
    session: str

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Access:
        """The credentials in an ASGI scope, of a websocket or a request. A bearer token outweighs a cookie."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        cookies = "; ".join(value.decode("latin1") for name, value in headers if name == b"cookie")
        return cls(bearer_of(headers), parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME, ""))

    @classmethod
    def of_request(cls, request: HttpRequest) -> Access:
        """The same of a request that has passed Django's middleware."""
        authorization = request.headers.get("authorization", "").encode("latin1", "replace")
        return cls(
            bearer_of([(b"authorization", authorization)]), request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        )

    def user(self) -> User | None:
        """Whose credentials these are, if they are still good."""
        if self.bearer is not None:
            return Token.objects.user_of(self.bearer)
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(self.session or None)
        found = get_user(request)
        return found if isinstance(found, User) and found.is_active else None

    def conversation(self, pk: uuid.UUID) -> Conversation | User | None:
        """The conversation, or the user who may not see it or for whom it does not exist, or None for nobody."""
        user = self.user()
        if user is None:
            return None
        return Conversation.objects.visible_to(user).filter(pk=pk).first() or user
