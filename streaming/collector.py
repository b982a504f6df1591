"""Keeps the garbage collector from stopping a process for long, and often.

A full collection walks all that is alive, and most of that is modules: measured, 80 to 230 ms in which no word moves.
"""

import gc

# So many more objects are there before the young ones are walked, where Python has 700; what is older is walked once
# for ten of the collections below it. With 500 answers being written a full collection takes 60 to 180 ms, came every
# ten seconds, and was what every hundredth word waited for; walking the young took a twentieth of all the time. Now
# the young take half of that, and a full one is minutes away. What it would have freed takes some 60 MB meanwhile.
YOUNG = 10_000


def spare() -> None:
    """Take everything loaded so far out of the collector's way. Call once, when a process is ready to work: what is
    frozen is not searched for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
