"""`spillway calibrate` as its users run it, against a simulated engine in real time: it finds what that steps like."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import Profile
from tests.e2e.processes import MODEL, write_policy

ENGINE = Profile(
    name="short",
    step_s=10e-3,
    decode_s=400e-6,
    kv_s=300e-9,
    prefill_s=40e-6,
    attention_s=20e-9,
    kv_tokens=100_000,
    max_batched_tokens=512,
)
FIELDS = {
    "step_s": ENGINE.step_s,
    "sequence_s": ENGINE.decode_s,
    "context_token_s": ENGINE.kv_s,
    "prefill_token_s": ENGINE.prefill_s,
    "attention_s": ENGINE.attention_s,
}
WITHIN = 0.10
ONCE = ("--max-tokens", "80000")
"""One round of the runs."""
ATTEMPTS = 3
"""A machine with other things to do makes an engine step unevenly, and that is then what is measured."""


async def calibrating(policy: Path, *options: str) -> Process:
    command = [sys.executable, "-m", "proxy", "calibrate", "gpu", "--policy", str(policy), *options]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)


async def test_it_finds_the_coefficients_of_a_simulated_engine(tmp_path: Path) -> None:
    async with EngineSimulator(ENGINE, model=MODEL) as engine:
        policy = write_policy(tmp_path, gpu=engine.url)
        for _ in range(ATTEMPTS):
            process = await calibrating(policy, "--concurrency", "8", "--prompt-tokens", "3072", *ONCE, "--json")
            output, errors = await process.communicate()
            assert process.returncode == 0, errors
            told = json.loads(output)
            off = {name: abs(told["profile"][name] / value - 1) for name, value in FIELDS.items()}
            if max(off.values()) <= WITHIN:
                break
    assert {name: share for name, share in off.items() if share > WITHIN} == {}
    assert told["chunk_tokens"] == ENGINE.max_batched_tokens
    assert told["error"]["itl"]["median"] < 0.15
    assert told["error"]["ttft"]["median"] < 0.15
    assert told["tokens"] < 80_000


async def test_ctrl_c_ends_it_and_the_engine_is_free_again(tmp_path: Path) -> None:
    async with EngineSimulator(ENGINE, model=MODEL) as engine:
        process = await calibrating(write_policy(tmp_path, gpu=engine.url))
        async with asyncio.timeout(30):
            await engine.ledger.until(lambda: engine.open_requests > 0)
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
            await engine.ledger.until(lambda: engine.open_requests == 0)
    assert (process.returncode, output) == (130, b"")
    assert errors.decode().endswith("stopped; nothing was changed\n")
