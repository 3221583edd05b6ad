"""A question has an answer or an error, and does not keep a process that is about to end."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from proxy.cluster.asking import Asking

NEVER_ANSWERED = """
import asyncio, threading
from proxy.cluster.asking import Asking

async def main():
    asked = asyncio.get_running_loop().run_in_executor(Asking("never"), threading.Event().wait)
    await asyncio.wait({asked}, timeout=0.05)
    asked.cancel()

asyncio.run(main())
"""


async def test_what_is_answered_and_what_goes_wrong() -> None:
    loop, asking = asyncio.get_running_loop(), Asking("test")
    assert await loop.run_in_executor(asking, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(asking, divmod, 7, 0)


def test_nobody_waits_for_an_answer_that_does_not_come() -> None:
    done = subprocess.run((sys.executable, "-c", NEVER_ANSWERED), capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
