"""Who talks here: accounts, visitors, and the bearer tokens they use from outside of a browser."""

from __future__ import annotations

import hashlib
import math
import secrets

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

MOST_TOKENS = 100


class Refused(Exception):
    """A request that cannot be taken now. `code` is stable for programs, the text is for people.

    `wait_s` is set when waiting helps: so many seconds, which HTTP tells with 429 and in Retry-After.
    """

    def __init__(self, code: str, detail: str, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.wait_s = wait_s

    @property
    def retry_after(self) -> dict[str, str]:
        """The header that says so."""
        return {} if self.wait_s is None else {"Retry-After": str(max(1, math.ceil(self.wait_s)))}


class User(AbstractUser):
    """A person. A visitor is one without a password or a form to fill: whoever holds the session or token is it."""

    is_visitor = models.BooleanField(default=False)

    @classmethod
    def new_visitor(cls) -> User:
        visitor = cls(username=f"visitor-{secrets.token_hex(8)}", is_visitor=True)
        visitor.set_unusable_password()
        visitor.save()
        return visitor

    @property
    def display_name(self) -> str:
        return "Visitor" if self.is_visitor else self.get_full_name() or self.username


class TokenQuerySet(models.QuerySet["Token"]):
    def issue(self, user: User, name: str = "") -> str:
        """Make a token and return its secret, which is not stored and cannot be shown again; Refused (`full`)."""
        if self.filter(user=user).count() >= MOST_TOKENS:
            raise Refused("full", f"You have {MOST_TOKENS} tokens; revoke some first.")
        secret = f"cs_{secrets.token_urlsafe(32)}"
        self.create(user=user, name=name, digest=Token.digest_of(secret))
        return secret

    def user_of(self, secret: str) -> User | None:
        """The active user a secret belongs to; remembers the day of its use."""
        found = self.filter(digest=Token.digest_of(secret), user__is_active=True).select_related("user").first()
        if found is None:
            return None
        today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
        if found.last_used_at is None or found.last_used_at < today:
            self.filter(pk=found.pk).update(last_used_at=timezone.now())
        return found.user


class Token(models.Model):
    """A bearer token of the API, kept as a digest: the secret is too random for a plain SHA-256 to be guessed."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True)

    objects = TokenQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name or f"token {self.pk}"

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()
