"""Whether Spillway really metered and logged what it served: speed with those switched off would be another proxy's."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

SETTLES_WITHIN_S = 5.0


def shortfall(answers: int, *, admin_port: int, log: Path) -> str | None:
    """What is missing of `answers` in the store's meters or in the request log; None when both have them all.

    Both may have more: the generator counts only what was answered whole and within its windows.
    """
    deadline_s = time.monotonic() + SETTLES_WITHIN_S
    while True:
        counts = {"metered": _metered(admin_port), "logged": _logged(log)}
        short = {name: count for name, count in counts.items() if count < answers}
        if not short:
            return None
        if time.monotonic() > deadline_s:
            return f"of {answers} answers only " + " and ".join(f"{count} were {name}" for name, count in short.items())
        time.sleep(0.1)


def _metered(admin_port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/admin/meters", timeout=5) as reply:
        return int(json.load(reply)["total"]["requests"])


def _logged(log: Path) -> int:
    with log.open("rb") as lines:
        return sum(line.startswith(b'{"event":"request"') for line in lines)
