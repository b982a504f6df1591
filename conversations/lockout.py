"""What django-axes asks of this site: who a wrong password came from, and what a name that is locked out gets to read.

A name is locked for one network only: neither can somebody elsewhere lock the owner out, nor one user of a shared
address all the others.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from conversations.api.throttles import network
from conversations.budgets import in_words

# For those who are logged in without a password: axes' own backend knows nobody.
BACKEND = "django.contrib.auth.backends.ModelBackend"


def address(request: HttpRequest) -> str | None:
    """The network a password came from, as the throttles count it; None when the server does not know."""
    return network(request.META.get("REMOTE_ADDR") or "", unknown=None)


def refuse(request: HttpRequest, response: HttpResponse | None = None, credentials: Any = None) -> HttpResponse:
    """In place of the log-in page, this site's or the admin's."""
    locked = render(request, "registration/locked.html", {"wait": in_words(settings.LOGIN_LOCK_S)}, status=429)
    locked["Retry-After"] = str(int(settings.LOGIN_LOCK_S))
    return locked
