"""Runs a client script and reads what it printed."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.engine.replies import events

DEADLINE_S = 180
CURL_CASE = re.compile(rb"case (\w+) (\d+) (\d+) ([^\n]*)\n")


def run(command: list[str | Path], settings: Mapping[str, str]) -> str:
    """The script's output. It sees its settings and nothing else of our environment that could lead it astray."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "NO_PROXY": "*", **settings}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stderr}"
    return done.stdout


def parsed(output: str) -> dict[str, Any]:
    """The results by case."""
    if output.startswith("case "):
        return curl_results(output.encode())
    results: dict[str, Any] = json.loads(output)
    return results


def curl_results(output: bytes) -> dict[str, Any]:
    results = {}
    while match := CURL_CASE.match(output):
        name, size, status, content_type = match.groups()
        end = match.end() + int(size)
        body = output[match.end() : end]
        results[name.decode()] = {
            "status": int(status),
            "content_type": content_type.decode(),
            "body": body_of(body, content_type),
        }
        output = output[end:].lstrip(b"\n")
    assert not output, f"left over: {output!r}"
    return results


def body_of(body: bytes, content_type: bytes) -> Any:
    if content_type.startswith(b"text/event-stream"):
        return events(body)
    return json.loads(body) if content_type.startswith(b"application/json") else body.decode()
