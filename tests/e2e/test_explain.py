"""`spillway policy explain` as a process: about a proxy that runs, and about the requests in its log."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.e2e.processes import PROVIDER_KEY, ROOT, Served, ask, engine, eventually, provider, serving, write_policy

ROUTES = """\
routes:
  - name: night
    match: {traffic: offline}
    require: {lane: dedicated}
  - name: rest
    want: {ttft_p99: 5s}
"""


async def explained(folder: Path, *arguments: str) -> tuple[int, Any]:
    """Exit status, and the answer as data."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "policy", "explain", *arguments, "--format", "json"),
        env={"PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert PROVIDER_KEY.encode() not in out + err
    assert out, err
    return process.returncode or 0, json.loads(out)


async def logged(served: Served, count: int) -> list[dict[str, Any]]:
    """The lines of the log, once there are so many."""
    lines = [json.loads(line) for line in (served.folder / "out").read_text().splitlines()]
    return lines if len(lines) >= count else []


async def test_a_running_proxy_and_each_of_its_requests_can_be_asked_about(tmp_path: Path) -> None:
    async with engine() as gpu, provider() as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url, more=ROUTES)
        async with serving(policy, "--workers", "2") as served:
            live = ("--live", f"http://127.0.0.1:{served.admin_port}")
            code, answer = await explained(tmp_path, *live, "--model", "m")
            refused = await explained(tmp_path, *live, "--model", "m", "--traffic", "offline", "--lane", "shared")
            for headers in ({}, {"x-spillway-lane": "shared"}, {"x-spillway-traffic": "offline"}):
                served.headers.update(headers)
                await served.post(ask())
            lines = await eventually(lambda: logged(served, 3))
            told = {one["request_id"]: await explained(tmp_path, str(policy), *of(one, served)) for one in lines}
            assert await served.stop() == 0
    assert (code, answer["worker"], answer["targets"][0]["target"]) == (0, 0, "gpu")
    assert answer["targets"][0]["observed"][0]["seen"]
    assert (refused[0], refused[1]["refusal"]["status"]) == (1, 403)
    for line in lines:
        code, found = told[line["request_id"]]
        assert found["agrees"]
        assert found["explanation"]["policy"] == line["policy"]
        assert found["explanation"]["route"]["name"] == line["route"]
        assert code == (1 if "refusal" in line else 0)
    assert sorted(line["route"] for line in lines) == ["night", "rest", "rest"]


def of(line: dict[str, Any], served: Served) -> tuple[str, ...]:
    return "--request", line["request_id"], "--log", str(served.folder / "out")
