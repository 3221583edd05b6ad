"""A GPU deployment that goes to sleep and is woken, as the chart's pod lives through it: the whole program, a process.

The policy is the chart's ConfigMap, the settings are those of its Deployment (but for the store, which is the program's
own), the pods of the engine are simulators at addresses of this host, and the cluster is the stand-in for its API
server. What the kubelet mounts for a service account is found by way of `sitecustomize`, since its place in the file
system is not a test's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from proxy.cluster.access import Access

from tests.apiserver import ApiServer, Refusal, endpoint, endpoint_slice
from tests.apiserver import serving as cluster
from tests.e2e.processes import MODEL, ROOT, Served, ask, engine, eventually, provider, serving
from tests.harness import Reply
from tests.helm import chart
from tests.helm.mounted import Mounted

ELSEWHERE = {f"SPILLWAY_{name}" for name in ("HOST", "PORT", "ADMIN_PORT", "POLICY", "DATA_DIR", "REDIS_URL")}
ACCOUNT = (
    "import proxy.cluster.access as access\naccess.Access.__init__.__kwdefaults__['account'] = access.Path({!r})\n"
)
WORKLOAD = "deployments/vllm"
CROWD = 20


def policy(provider_url: str) -> str:
    """What a platform team would write."""
    return yaml.safe_dump(
        {
            "version": 1,
            "targets": {
                "own": {
                    "lane": "dedicated",
                    "engine": "vllm",
                    "kubernetes": {"service": "vllm", "namespace": "inference", "port": "http"},
                    "wake": {"kubernetes": {"deployment": "vllm", "namespace": "inference", "replicas": 1}},
                    "model": MODEL,
                },
                "api": {
                    "lane": "shared",
                    "provider": "openai",
                    "url": provider_url,
                    "model": MODEL,
                    "api_key": "${PROVIDER_KEY}",
                    "price": {"input": 0.5, "output": 1.5},
                },
            },
            "models": {"m": ["own", "api"]},
            "auth": "none",
        }
    )


class Engines:
    """The pods of the deployment: each an engine at an address of its own, all on one port, and listed in one slice."""

    def __init__(self, server: ApiServer, stack: contextlib.AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self._running: dict[str, contextlib.AsyncExitStack] = {}
        with socket.create_server(("0.0.0.0", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._list()

    async def start(self, address: str) -> None:
        """A pod is up and ready."""
        running = self._running[address] = await self._stack.enter_async_context(contextlib.AsyncExitStack())
        await running.enter_async_context(engine(host=address, port=self._port))
        self._list()

    async def end_all(self) -> None:
        """The deployment is scaled to nothing: its pods leave the slice, and then they are gone."""
        running, self._running = self._running, {}
        self._list()
        for one in running.values():
            await one.aclose()
        self._server.scales[WORKLOAD] = 0

    def _list(self) -> None:
        pods = [endpoint(address, address) for address in self._running]
        self._server.put(endpoint_slice("vllm-x", *pods, ports=(("http", self._port),)))
        self._server.scales[WORKLOAD] = len(pods)


@contextlib.asynccontextmanager
async def pod(folder: Path, text: str, access: Access) -> AsyncIterator[Served]:
    """A pod of the release, beside that API server."""
    found = chart.given({"policy": {"text": text}, "providerKeys": {"existingSecrets": ["llm"]}}, folder)
    container = chart.proxy_container(found)
    assert chart.pod_of(chart.one_of(found, "Deployment", "proxy"))["automountServiceAccountToken"] is True
    env = {one["name"]: one["value"] for one in container["env"] if one["name"] not in ELSEWHERE}
    env |= {"KUBERNETES_SERVICE_HOST": access.host, "KUBERNETES_SERVICE_PORT": str(access.port)}
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(ACCOUNT.format(str(access.account)))
    env["PYTHONPATH"] = f"{folder / 'site'}:{ROOT}"
    (folder / "pod").mkdir()
    mounted = Mounted(folder / "pod" / "policy", chart.policy_files(found))
    async with serving(mounted.folder, env=env) as served:
        yield served


async def answered(served: Served) -> Reply:
    reply = await served.post(ask())
    assert reply.status == 200, reply.body
    return reply


async def until_lane(served: Served, lane: str) -> Reply:
    """Ask until that lane answers; every request on the way is answered."""

    async def there() -> Reply | None:
        reply = await answered(served)
        return reply if reply.headers["x-spillway-lane"] == lane else None

    found: Reply = await eventually(there)
    return found


async def replicas(served: Served) -> dict[str, Any]:
    """Those of `own` in the live view, by address."""
    live = (await served.request("GET", "/admin/live", admin=True)).json
    (own,) = [one for one in live["targets"] if one["name"] == "own"]
    assert (own["found"]["up"], own["found"]["unready"], own["found"]["trouble"]) == (True, 0, "")
    return {one["host"].rpartition(":")[0]: one for one in own["replicas"]}


async def shown(served: Served, *addresses: str) -> dict[str, Any]:
    """The replicas, once they are those: the view is a moment old."""

    async def those() -> list[dict[str, Any]]:
        seen = await replicas(served)
        return [seen] if seen.keys() == {*addresses} else []

    (found,) = await eventually(those)
    return dict(found)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="all of 127.0.0.0/8 is this host on Linux only")
async def test_a_deployment_sleeps_and_is_woken(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        shared = await stack.enter_async_context(provider())
        server, access = await stack.enter_async_context(cluster(tmp_path))
        engines = Engines(server, stack)
        served = await stack.enter_async_context(pod(tmp_path, policy(shared.url), access))

        # Nothing runs: the provider serves, and the deployment is scaled up, once for all who came.
        replies = await asyncio.gather(*(answered(served) for _ in range(CROWD)))
        assert {one.headers["x-spillway-lane"] for one in replies} == {"shared"}
        assert {one.headers["x-spillway-reason"].partition(":")[0] for one in replies} == {"asleep"}
        async with asyncio.timeout(10.0):
            assert await server.scaled.get() == (WORKLOAD, 1)

        # Its pods appear, and have the work; they are given less at first.
        await engines.start("127.0.0.2")
        await engines.start("127.0.0.3")
        await until_lane(served, "dedicated")

        assert all(one["warmth"] < 1.0 for one in (await shown(served, "127.0.0.2", "127.0.0.3")).values())
        replies = await asyncio.gather(*(answered(served) for _ in range(CROWD)))
        assert {one.headers["x-spillway-lane"] for one in replies} == {"dedicated"}

        # Down to nothing again: spilled, for that reason, and nobody wakes it anew so soon.
        await engines.end_all()
        spilled = await until_lane(served, "shared")
        asleep = await eventually(lambda: reason(served, "asleep"))
        assert (spilled.status, asleep.headers["x-spillway-target"]) == (200, "api")
        await shown(served)

        # Another pod, at an address of its own: it begins with little, and serves.
        await engines.start("127.0.0.4")
        await until_lane(served, "dedicated")
        (back,) = (await shown(served, "127.0.0.4")).values()
        assert back["warmth"] < 1.0
        assert server.scaled.empty()
        calls = re.findall(r"(?m)^spillway_wake_calls_total\{.*\} .*$", await served.metrics())
        assert calls == ['spillway_wake_calls_total{outcome="heard",target="own"} 1.0']


async def reason(served: Served, wanted: str) -> Reply | None:
    """A reply, if it went where it went for that reason."""
    reply = await answered(served)
    return reply if reply.headers["x-spillway-reason"].startswith(f"{wanted}:") else None


async def trouble(served: Served) -> str:
    """What the live view says is wrong with the pods of `own`."""
    live = (await served.request("GET", "/admin/live", admin=True)).json
    return next(str(one["found"]["trouble"]) for one in live["targets"] if one["name"] == "own")


async def told(served: Served) -> str:
    """What `spillway status` says."""
    url = f"http://127.0.0.1:{served.admin_port}"
    command = (sys.executable, "-m", "proxy", "status", "--admin-url", url)
    asked = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    said, _ = await asked.communicate()
    return said.decode()


async def test_why_there_are_no_replicas_is_shown(tmp_path: Path) -> None:
    """No Role at first; then a list in which somebody has written where a cloud hands out keys."""
    async with contextlib.AsyncExitStack() as stack:
        shared = await stack.enter_async_context(provider())
        server, access = await stack.enter_async_context(cluster(tmp_path))
        server.scales[WORKLOAD] = 0
        server.faults.refusals = [Refusal(403, 1_000_000)]
        served = await stack.enter_async_context(pod(tmp_path, policy(shared.url), access))
        assert "the service account may not `list` and `watch`" in await trouble(served)
        assert "own: the service account may not `list` and `watch`" in await told(served)

        server.put(endpoint_slice("forged", endpoint("1", "169.254.169.254"), ports=(("http", 80),)))
        server.faults.refusals = []
        left_out = "`169.254.169.254` cannot be a replica"

        async def seen() -> bool:
            return (await trouble(served)).startswith(left_out)

        await eventually(seen)
        reply = await answered(served)
        assert reply.headers["x-spillway-lane"] == "shared"
        assert reply.headers["x-spillway-reason"].startswith("asleep:")
        assert f"own: 1 not ready; {left_out}" in await told(served)
        assert f"the replicas of `own`: {left_out}" in served.said
