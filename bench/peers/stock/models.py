"""The stock recipe's one table."""

from __future__ import annotations

from django.db import models


class Delta(models.Model):
    """One delta of an answer, as it came."""

    room = models.CharField(max_length=100, db_index=True)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects: models.Manager[Delta] = models.Manager()

    def __str__(self) -> str:
        return self.text
