"""A program that ends with whoever started it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from proxy.meters import tethered
from tests.meters.conftest import ended, until

SCRIPT = str(Path(tethered.__file__))


def test_it_becomes_the_program() -> None:
    shown = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, str(os.getpid()), "/bin/sh", "-c", 'echo "$0 $1"', "a b", "c"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shown.stdout == "a b c\n"


def test_it_does_not_start_the_program_for_a_parent_that_is_gone() -> None:
    shown = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, str(os.getpid() + 1), "/bin/echo", "started"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shown.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties processes to their parents on Linux only")
def test_the_program_ends_when_its_parent_is_killed() -> None:
    parent = (
        "import os, subprocess, sys; "
        "child = subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), '/bin/sh', '-c', "
        "'echo $$; exec sleep 60']); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not ended(child)
        process.kill()
        asyncio.run(until(lambda: ended(child)))
