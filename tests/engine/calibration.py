"""`spillway calibrate` on an engine of these tests."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.engine import vllm


def calibrated(*arguments: str) -> dict[str, Any]:
    """What it found, as it prints it."""
    command = [sys.executable, "-m", "proxy", "calibrate", *arguments, "--json"]
    env = {**os.environ, "ENGINE_KEY": vllm.KEY}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told
