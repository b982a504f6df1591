"""Runs generations: claims streams, keeps their leases, hears stops, and hands unfinished ones back when it ends."""


def wake() -> None:
    """Tell this process's engine, if it runs one, that there is something to claim or to stop. Callable anywhere."""
