"""How much may be asked of the model: how often, how much a day and how much at once, by each person and by all.

It is counted in the database, in the transaction that stores the prompt and behind a lock on the row that counts: two
processes asked at the same moment see each other, and a prompt that is refused for another reason costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from conversations.people import Refused
from streaming.models import Stream

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
PERIODS_S = {"s": 1, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
# When the next answer ends is not known; a program may look again this soon.
SOON_S = 5.0
OWN = "Empty: as for everybody. 0: no limit."


@dataclass(frozen=True, slots=True)
class Limits:
    """What one row of Budget allows; 0 is no limit."""

    prompts: int
    prompts_s: int
    streams: int
    day_chars: int

    @property
    def any(self) -> bool:
        return bool(self.prompts or self.streams or self.day_chars)


def everybodys() -> Limits:
    """The limits of a person without own ones."""
    return Limits(*rate(settings.THROTTLE_PROMPTS), settings.USER_STREAMS, settings.USER_DAY_CHARS)


def sites() -> Limits:
    """The limits of all people together."""
    return Limits(*rate(settings.THROTTLE_SITE_PROMPTS), settings.SITE_STREAMS, settings.SITE_DAY_CHARS)


def rate(written: str) -> tuple[int, int]:
    """How many in how many seconds: "60/min" is (60, 60), an empty rate no limit."""
    number, _, period = written.partition("/")
    return (int(number), PERIODS_S[period[0]]) if written else (0, MINUTE_S)


class BudgetQuerySet(models.QuerySet["Budget"]):
    def spend(self, owner: int, chars: int) -> None:
        """Count a prompt of `owner` that sends `chars` characters to a model; Refused when that is too much.

        To be called in the transaction that then makes the stream.
        """
        for budget in self._locked(owner, everybody=sites().any):
            budget.spend(chars)

    def _locked(self, owner: int, *, everybody: bool) -> list[Budget]:
        wanted = Q(user=owner) | Q(user=None) if everybody else Q(user=owner)
        # All lock the person's first and the site's last, so nobody waits for somebody who waits for them.
        rows = self.filter(wanted).order_by(F("user").asc(nulls_last=True)).select_for_update()
        if len(found := list(rows.all())) == 1 + everybody:
            return found
        self.bulk_create([Budget(user_id=owner), *([Budget()] if everybody else [])], ignore_conflicts=True)
        return list(rows.all())


class Budget(models.Model):
    """What a person has used and may use; the row without a user counts for the whole site.

    What was used is regained evenly: of 60 prompts a minute one each second, all 60 after a minute without any. The
    two moments say when everything will have been regained.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, editable=False)
    prompts_per_min = models.PositiveIntegerField("prompts a minute", null=True, blank=True, help_text=OWN)
    streams = models.PositiveIntegerField("answers at once", null=True, blank=True, help_text=OWN)
    day_chars = models.PositiveIntegerField("characters a day", null=True, blank=True, help_text=OWN)
    prompts_regained_at = models.DateTimeField(default=timezone.now, editable=False)
    chars_regained_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = BudgetQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(Coalesce("user", 0), name="budget_once"),)

    def __str__(self) -> str:
        return f"budget of user {self.user_id}" if self.user_id else "budget of the site"

    def limits(self) -> Limits:
        if self.user_id is None:
            return sites()
        usual = everybodys()
        prompts = (usual.prompts, usual.prompts_s) if self.prompts_per_min is None else (self.prompts_per_min, MINUTE_S)
        return Limits(
            *prompts,
            usual.streams if self.streams is None else self.streams,
            usual.day_chars if self.day_chars is None else self.day_chars,
        )

    def live(self) -> int:
        """How many answers are being written or wait for it."""
        streams = Stream.objects.live()
        return (streams.filter(message__conversation__owner=self.user_id) if self.user_id else streams).count()

    def spend(self, chars: int) -> None:
        """Count one more prompt, or refuse it."""
        limits, now, who = self.limits(), timezone.now(), "You have" if self.user_id else "All together have"
        if limits.prompts:
            cost_s = limits.prompts_s / limits.prompts
            if wait_s := too_soon_s(self.prompts_regained_at, now, cost_s, limits.prompts_s):
                raise Refused("throttled", f"{who} asked too often. Try again in {in_words(wait_s)}.", wait_s)
            self.prompts_regained_at = max(self.prompts_regained_at, now) + timedelta(seconds=cost_s)
        if limits.day_chars:
            cost_s = DAY_S * chars / limits.day_chars
            if wait_s := too_soon_s(self.chars_regained_at, now, cost_s, DAY_S):
                detail = f"{who} asked as much as a day's limit allows. Try again in {in_words(wait_s)}."
                raise Refused("day_spent", detail, wait_s)
            self.chars_regained_at = max(self.chars_regained_at, now) + timedelta(seconds=cost_s)
        if limits.streams and self.live() >= limits.streams:
            detail = f"{who} {limits.streams} answers being written. Wait for the end of one or stop it first."
            raise Refused("too_many_streams", detail, SOON_S)
        self.save(update_fields=["prompts_regained_at", "chars_regained_at"])


def too_soon_s(regained_at: datetime, now: datetime, cost_s: float, period_s: float) -> float:
    """How long to wait until what costs `cost_s` of a period's allowance can be had; 0: it can be had now."""
    used_s = (regained_at - now).total_seconds()
    # What costs more than a period allows would never fit; it is let through when all has been regained.
    return max(0.0, round(min(used_s, used_s + cost_s - period_s), 3))


def in_words(wait_s: float) -> str:
    if wait_s < 2 * MINUTE_S:
        return f"{math.ceil(wait_s)} s"
    return f"{math.ceil(wait_s / MINUTE_S)} min" if wait_s < 2 * HOUR_S else f"{math.ceil(wait_s / HOUR_S)} h"
