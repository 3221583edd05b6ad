"""What an operator does with a running proxy: makes and revokes keys, keeps a decision log, and reads the bill."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from pyarrow import parquet
from tests.e2e.processes import ROOT, Served, ask, engine, eventually, provider, serving, write_policy

DIGEST = "2f1c0b0c2a3f4f0f6c3a0e1d9d8b7a6958473625140f1e2d3c4b5a6978877665"
TENANTS = f"tenants:\n  bank:\n    keys:\n      - sha256:{DIGEST}  # of somebody else\n"
LOGGED = 60


async def spillway(*arguments: str, expected: int = 0) -> str:
    """What a verb says on its standard output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == expected, err.decode()
    return out.decode()


async def all_say(served: Served, status: int, in_a_row: int = 8) -> bool:
    """Whether as many requests as reach every worker, one after another, are answered so."""
    return all([(await served.post(ask())).status == status for _ in range(in_a_row)])


def lines_of(log: Path) -> list[bytes]:
    """The lines of all files of a decision log, packed or about to be."""
    rotated = [one for one in log.parent.iterdir() if one.name.startswith(f"{log.name}.")]
    packed = {one.with_suffix(""): gzip.decompress(one.read_bytes()) for one in rotated if one.suffix == ".gz"}
    plain = {one: one.read_bytes() for one in rotated if one.suffix != ".gz"}
    assert rotated
    return b"".join([*(plain | packed).values(), log.read_bytes()]).splitlines()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_key_that_is_written_opens_the_door_and_one_that_is_revoked_closes_it(
    tmp_path: Path, workers: int
) -> None:
    async with engine() as gpu:
        path = write_policy(tmp_path, gpu=gpu.url, more=TENANTS)
        before = path.read_text()
        async with serving(path, "--workers", str(workers)) as served:
            key = (await spillway("keys", "create", "bank/ci", "--policy", str(path), "--write")).strip()
            served.headers["authorization"] = f"Bearer {key}"
            await eventually(lambda: all_say(served, 200))
            await spillway("keys", "revoke", "bank/ci", "--policy", str(path), "--write")
            await eventually(lambda: all_say(served, 401))
            assert key not in served.said
    assert path.read_text().startswith(before)


async def test_workers_share_a_decision_log_that_has_what_standard_output_has(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    options = ("--decision-log", str(log), "--decision-log-max-bytes", "20kB", "--decision-log-gzip")
    async with engine() as gpu:
        path = write_policy(tmp_path, gpu=gpu.url)
        async with serving(path, "--workers", "2", *options) as served:
            for _ in range(LOGGED // 20):
                await asyncio.gather(*[served.post(ask()) for _ in range(20)])
            await served.stop()
    lines = lines_of(log)
    printed = [line for line in served.said.encode().splitlines() if line.startswith(b'{"event":"request"')]
    assert Counter(lines) == Counter(printed)
    assert len({json.loads(line)["request_id"] for line in lines}) == LOGGED


async def test_the_bill_of_what_was_used_adds_up_to_what_the_provider_counted(tmp_path: Path) -> None:
    async with provider() as api:
        path = write_policy(tmp_path, api=api.url)
        async with serving(path, "--workers", "2") as served:
            await asyncio.gather(*[served.post(ask()) for _ in range(30)])
            admin = ("--admin-url", f"http://127.0.0.1:{served.admin_port}")

            async def settled() -> bool:
                return (await served.meters()).get("api", {}).get("requests") == 30

            await eventually(settled)
            rows = list(csv.DictReader(io.StringIO(await spillway("meters", "export", "--from", "-2h", *admin))))
            out = tmp_path / "bill.parquet"
            await spillway("meters", "export", "--from", "-2h", "--format", "parquet", "-o", str(out), *admin)
            told = json.loads(await spillway("meters", "--by", "model,lane", "--format", "json", *admin))
    tokens_in, tokens_out = (
        sum(int(row["x_InputTokens"]) for row in rows),
        sum(int(row["x_OutputTokens"]) for row in rows),
    )
    paid = (Decimal("0.5") * tokens_in + Decimal("1.5") * tokens_out) / 10**6
    assert (tokens_out, sum(int(row["x_Requests"]) for row in rows)) == (150, 30)
    assert sum(Decimal(row["BilledCost"]) for row in rows) == paid
    assert sum(parquet.read_table(out).column("EffectiveCost").to_pylist()) == paid
    assert [(row["model"], row["lane"], row["requests"], Decimal(row["total_usd"])) for row in told] == [
        ("m", "shared", 30, paid)
    ]
