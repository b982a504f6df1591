"""Asks the OSV database for known vulnerabilities of the pinned packages: `python -m tests.audit`, part of `make lint`.

Finding one fails. Not being able to ask, because there is no network or no answer in time, is said and fails nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys

from chatsite.settings import BASE_DIR

TIMEOUT_S = 20


def audit(constraints: str = "constraints.txt", timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
    """The exit status, and what to say."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--format", "json"]
    command += ["--requirement", constraints, "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, timeout=timeout_s, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return 0, "audit: NOT DONE, the database of vulnerabilities could not be asked"
    found = [f"{each['name']} {each['version']}: {bug['id']}" for each in packages for bug in each.get("vulns", ())]
    if found:
        return 1, "audit: known vulnerabilities (make lock brings newer versions)\n" + "\n".join(found)
    return 0, f"audit: no known vulnerability in {len(packages)} packages"


if __name__ == "__main__":
    status, said = audit()
    print(said)  # noqa: T201
    sys.exit(status)
