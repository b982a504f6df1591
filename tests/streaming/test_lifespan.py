"""What a server's start does for the answers that follow."""

from __future__ import annotations

import gc

import pytest

from streaming import lifespan

pytestmark = pytest.mark.django_db(transaction=True)


async def test_what_was_loaded_at_the_start_is_never_walked_by_the_garbage_collector() -> None:
    thresholds = gc.get_threshold()
    await lifespan.start()
    try:
        assert gc.get_freeze_count() > 20 * len(gc.get_objects())
        assert gc.get_threshold()[0] > thresholds[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        await lifespan.stop()
