"""How often strangers may come: rates like "60/min" by scope, read from settings.THROTTLE_<SCOPE> at each request.

An empty rate is no limit. They count by address: what the web server says it is; forwarded headers are the web server's
business. What people may ask once they are known is counted in budgets.py.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

logger = logging.getLogger(__name__)
VISITORS = "visitors"
LOGINS = "logins"


class TooMany(exceptions.Throttled):
    """Refused for `wait` more seconds; the response says so in Retry-After."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait=max(1, math.ceil(wait)))


class Throttle(SimpleRateThrottle):
    """One look at one scope's history, which it adds to when the request is let through."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__()

    def get_rate(self) -> str | None:
        rate: str = getattr(settings, f"THROTTLE_{str(self.scope).upper()}")
        return rate or None

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": network(request.META.get("REMOTE_ADDR") or "")}


def network(address: str, unknown: str | None = "unknown") -> str | None:
    """What one subscriber holds: an IPv4 address, or the /64 an IPv6 address is in."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return unknown
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address) if ip.version == 6 else str(ip)


def wait_s(request: HttpRequest | Request, scope: str) -> float | None:
    """None: go ahead, this request has been counted. Else the seconds until the next one would be let through."""
    throttle = Throttle(scope)
    try:
        if throttle.allow_request(request, None):  # type: ignore[arg-type]
            return None
    except RedisError:
        logger.warning("the throttle's history cannot be read; letting %s through", scope, exc_info=True)
        return None
    # No waiting time is known when the rate was lowered below what its history holds.
    return throttle.wait() or 1.0


def check(request: Request, scope: str) -> None:
    """For views of the API: refuse with 429 when it has been too many."""
    wait = wait_s(request, scope)
    if wait is not None:
        raise TooMany(wait)
