"""Keeps the garbage collector from stopping a process for long, and often.

A full collection walks all that is alive, and most of that is modules: measured, 80 to 230 ms in which no word moves.
"""

import gc

# A full collection for so many of the one below it, where Python has 10: with 500 answers being written one takes 50 to
# 110 ms, and came every two seconds. What they would have freed takes some 50 MB more meanwhile.
FULL_EVERY = 50


def spare() -> None:
    """Take everything loaded so far out of the collector's way. Call once, when a process is ready to work: what is
    frozen is not searched for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_EVERY)
