"""Requests of a wanted size, and the C load generator that sends them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.cores import pinned
from tests.bench.processes import Memory, Tree

MODEL = "mock-model"
CHAT_PATH = "/v1/chat/completions"
EVENTS_PER_STREAM = 100
WORDS = "The slow green turtle swims under the busy bridge. "


def body(
    size_bytes: int, *, stream: bool = False, events: int = EVENTS_PER_STREAM, pace_us: int | None = None
) -> bytes:
    """A chat request of exactly `size_bytes`, its one user message padded.

    `pace_us` asks the mock upstream, through the prompt, for one event every so many microseconds.
    """
    prompt = f"pace_us={pace_us} " if pace_us else ""
    request: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": events}
    if stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    padding = size_bytes - len(_compact(request))
    if padding < 0:
        raise ValueError(f"a request cannot be as short as {size_bytes} bytes")
    request["messages"][0]["content"] = prompt + (WORDS * (padding // len(WORDS) + 1))[:padding]
    return _compact(request)


def _compact(request: Mapping[str, Any]) -> bytes:
    """JSON as the OpenAI clients of Python and JavaScript send it."""
    return json.dumps(request, separators=(",", ":")).encode()


Seen = TypeVar("Seen")
Watch = Callable[[float, float], Seen]  # called as the load begins, with the seconds until the window and its length


@dataclass(frozen=True, slots=True)
class Generator:
    """The load generator, pinned to its core."""

    binary: str
    core: int
    folder: Path

    def run(
        self,
        *,
        port: int,
        headers: tuple[str, ...],
        request: bytes,
        warmup_s: float,
        seconds: float,
        watch: Watch[Seen],
        **options: str | float,
    ) -> tuple[dict[str, Any], Seen]:
        """One load against `port`, measured for `seconds` after `warmup_s`: what was counted, and what `watch` saw.

        Raises:
            RuntimeError: the generator itself failed.
        """
        body_file = self.folder / "request.json"
        body_file.write_bytes(request)
        options |= {"body": str(body_file), "warmup": warmup_s, "seconds": seconds}
        command = [self.binary, str(port), CHAT_PATH, *(f"header={header}" for header in headers)]
        command += [f"{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(
            pinned(self.core, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            seen = watch(warmup_s, seconds)
            output, error = process.communicate(timeout=60)
        finally:
            process.kill()
        if process.returncode:
            raise RuntimeError(f"the load generator failed: {error.strip()}")
        return json.loads(output), seen


def children_cpu_s() -> float:
    """CPU seconds of all children of this process that ended so far: the generator's runs, above all."""
    times = os.times()
    return times.children_user + times.children_system


def core_share(tree: Tree) -> Watch[float]:
    """Watch the CPU time of `tree` per second of wall time over the window, a margin at either end left out."""

    def watch(warmup_s: float, seconds: float) -> float:
        margin_s = min(0.1, seconds / 10)
        time.sleep(warmup_s + margin_s)
        before_s, begun_s = tree.cpu_s(), time.monotonic()
        time.sleep(seconds - 2 * margin_s)
        return (tree.cpu_s() - before_s) / (time.monotonic() - begun_s)

    return watch


def memory(tree: Tree) -> Watch[Memory]:
    """Watch what memory `tree` holds near the end of the window."""

    def watch(warmup_s: float, seconds: float) -> Memory:
        time.sleep(warmup_s + 0.8 * seconds)
        return tree.memory()

    return watch


def nothing(_warmup_s: float, _seconds: float) -> float:
    """Watch nothing, of a system that has no process or a load whose cost follows from its rate."""
    return 0.0
