"""The benchmark's command line; bench/README.md says what to call.

python -m bench quick
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench import quick, store

HIDDEN = {"rate", "seconds", "warm_s", "processes", "closed", "bytes_per_delta", "source_late_ms", "max_ms"}


def say(record: dict[str, Any]) -> None:
    """One line for a record."""
    told = (f"{name}={value}" for name, value in record.items() if name not in HIDDEN and value != [])
    sys.stdout.write("  ".join(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("quick", help="a minute: latency, fan-out, memory, restart of the embedded column")
    command.add_argument("--web", choices=("uvicorn", "daphne"), default="uvicorn")
    options = parser.parse_args()
    machine = store.machine()
    records = []
    for record in quick.run(options.web):
        say(record)
        records.append(record)
    store.save("quick", records, machine)


if __name__ == "__main__":
    main()
