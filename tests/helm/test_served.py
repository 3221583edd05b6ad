"""What the chart renders, run by the real program: the policy's folder, the Deployment's settings, and its Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
import yaml
from proxy.meters.binary import find_server
from proxy.simulator.engine import EngineSimulator
from redis.exceptions import NoPermissionError
from tests.e2e.processes import ROOT, SIMULATED, Served, ask, eventually, serving
from tests.e2e.test_readme import free_ports
from tests.helm import chart
from tests.helm.mounted import Mounted

MODEL = "openai/gpt-oss-20b"
EDITS, WITHIN_S = 100, 5.0
ELSEWHERE = ("SPILLWAY_HOST", "SPILLWAY_PORT", "SPILLWAY_ADMIN_PORT", "SPILLWAY_POLICY", "SPILLWAY_DATA_DIR")


def engine() -> EngineSimulator:
    """What stands behind the Service `vllm`."""
    return EngineSimulator(SIMULATED, model=MODEL, speed=50.0, natural_tokens=20)


def settings(store_url: str) -> dict[str, str]:
    """The Deployment's own environment, but for where things are."""
    given = {one["name"]: one["value"] for one in chart.proxy_container(chart.manifests("simulator"))["env"]}
    assert given["SPILLWAY_REDIS_URL"] == "redis://spillway-valkey:6379/0"
    return {name: value for name, value in given.items() if name not in ELSEWHERE} | {"SPILLWAY_REDIS_URL": store_url}


def policy(engine_url: str) -> dict[str, str]:
    """The rendered ConfigMap's data, with the simulator in the place of the engine."""
    files = chart.policy_files(chart.manifests("simulator"))
    assert "http://vllm:8000/v1" in files["policy.yaml"]
    return {name: text.replace("http://vllm:8000/v1", engine_url) for name, text in files.items()}


async def key_and_secret() -> tuple[str, dict[str, str]]:
    """A key, and the files of the Secret that `spillway keys create` makes for it."""
    command = (sys.executable, "-m", "proxy", "keys", "create", "apps/first", "--secret", "spillway-keys")
    made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    manifest, told = await made.communicate()
    assert made.returncode == 0, told
    (key,) = re.findall(r"\bsk-\S+", told.decode())
    return key, yaml.safe_load(manifest)["stringData"]


def valkey_conf(scenario: str, folder: Path, port: int) -> Path:
    """A scenario's configuration of Valkey, for a port and a folder of this machine."""
    folder.mkdir()
    text = chart.of_kind(chart.manifests(scenario), "ConfigMap", "valkey")[0]["data"]["valkey.conf"]
    place = folder / "valkey.conf"
    place.write_text(text.replace("port 6379", f"port {port}").replace("dir /data", f"dir {folder}"))
    return place


@contextlib.asynccontextmanager
async def valkey(folder: Path, scenario: str = "simulator") -> AsyncIterator[str]:
    """The chart's Valkey on a port of this machine, by its own configuration; its URL."""
    (port,) = free_ports(1)
    command = (str(find_server()), str(valkey_conf(scenario, folder, port)))
    server = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        await server.wait()


@contextlib.asynccontextmanager
async def released(tmp_path: Path) -> AsyncIterator[tuple[Served, Mounted, dict[str, str]]]:
    """A pod of the release, the folder of its policy, and the files there."""
    pod = tmp_path / "pod"
    pod.mkdir()
    async with engine() as upstream, valkey(tmp_path / "store") as store_url:
        files = policy(upstream.url)
        mounted = Mounted(pod / "policy", files)
        async with serving(mounted.folder, env=settings(store_url)) as served:
            yield served, mounted, files


async def test_from_the_installation_to_the_first_routed_request(tmp_path: Path) -> None:
    """Nobody is let in at first; the Secret with a key comes later, as kubectl brings it, and then it is served."""
    async with released(tmp_path) as (served, mounted, files):

        async def whole() -> bool:
            return (await served.ready())["degraded"] == {}

        await eventually(whole)
        assert (await served.post(ask(model=MODEL))).status == 401
        key, secret = await key_and_secret()
        served.headers["authorization"] = f"Bearer {key}"
        mounted.update({**files, **secret})

        async def routed() -> bool:
            return (await served.post(ask(model=MODEL))).status == 200

        await eventually(routed)
        reply = await served.post(ask(model=MODEL))
        assert (reply.headers["x-spillway-target"], reply.headers["x-spillway-lane"]) == ("local", "dedicated")
        assert (await served.request("GET", "/v1/models")).json["data"][0]["id"] == MODEL

        async def counted() -> bool:
            return (await served.meters()).get("local", {}).get("requests", 0) >= 2

        await eventually(counted)
        mounted.update(files)  # the Secret is deleted, so the key is revoked

        async def turned_away() -> bool:
            return (await served.post(ask(model=MODEL))).status == 401

        await eventually(turned_away)
        assert key not in served.said


async def test_probes_and_the_test_pod_get_answers(tmp_path: Path) -> None:
    """The paths of the probes on the ports that they name, and the script of `helm test`, with a key and without."""
    key, secret = await key_and_secret()
    found = chart.manifests("simulator")
    serving_container = chart.proxy_container(found)
    async with released(tmp_path) as (served, mounted, files):
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = serving_container[name]["httpGet"]
            assert (await served.request("GET", asked["path"], admin=asked["port"] == "admin")).status == 200
        mounted.update({**files, **secret})
        served.headers["authorization"] = f"Bearer {key}"

        async def let_in() -> bool:
            return (await served.request("GET", "/v1/models")).status == 200

        await eventually(let_in)
        (container,) = chart.pod_of(chart.one_of(found, "Pod", "test"))["containers"]
        assert container["command"] == ["python", "-c"]
        where = {"HOST": "127.0.0.1", "PORT": str(served.port)}
        for env, status in ((where, 0), (where | {"KEY": key}, 0), (where | {"KEY": "sk-wrong"}, 1)):
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-c", *container["args"], env=env, stdout=DEVNULL
            )
            assert await asking.wait() == status, env


async def test_an_edited_configmap_is_served_within_five_seconds(tmp_path: Path) -> None:
    """A hundred edits, each seen by the request that follows it; files come and go. Prints how long they took."""
    key, secret = await key_and_secret()
    took_s = []
    async with released(tmp_path) as (served, mounted, files):
        served.headers["authorization"] = f"Bearer {key}"
        for number in range(EDITS):
            name = f"release-{number}"
            more = {f"more-{number % 3}.yaml": f"models:\n  {name}: [local]\n"}
            at = mounted.update({**files, **secret, **more})
            generation = number + 2
            while (await served.ready())["policy"]["generation"] < generation:
                assert time.monotonic() - at < WITHIN_S, f"edit {number} is not served"
            took_s.append(time.monotonic() - at)
            reply = await served.post(ask(1, model=name))
            assert reply.status == 200, reply.body
        assert (await served.ready())["policy"]["generation"] == EDITS + 1
    assert len(took_s) == EDITS
    assert max(took_s) <= WITHIN_S
    print(f"{EDITS} edits served: median {statistics.median(took_s):.2f} s, slowest {max(took_s):.2f} s")  # noqa: T201


async def test_a_bad_edit_is_not_served(tmp_path: Path) -> None:
    key, secret = await key_and_secret()
    async with released(tmp_path) as (served, mounted, files):
        mounted.update({**files, **secret, "more.yaml": "modles:\n  m: [local]\n"})
        served.headers["authorization"] = f"Bearer {key}"

        async def refused() -> bool:
            return (await served.ready())["policy"]["error"] is not None

        await eventually(refused)
        assert (await served.ready())["status"] == "ready"
        mounted.update({**files, **secret})

        async def routed() -> bool:
            return (await served.post(ask(model=MODEL))).status == 200

        await eventually(routed)


async def test_valkey_lets_nobody_do_more_than_spillway_does(tmp_path: Path) -> None:
    async with valkey(tmp_path / "store", "default") as url:
        client = redis.asyncio.Redis.from_url(url)

        async def listening() -> bool:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                return bool(await client.set("{spillway}:a", "1"))
            return False

        await eventually(listening)
        for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SHUTDOWN", "ACL LIST", "MODULE LIST"):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command.split())
        with pytest.raises(NoPermissionError):
            await client.set("other", "1")
        await client.aclose()


@pytest.mark.skipif(shutil.which("valkey-server") is None and shutil.which("redis-server") is None, reason="no server")
async def test_valkey_asks_for_the_password_of_a_secret(tmp_path: Path) -> None:
    """The container's own script, with a password that a shell or a configuration could stumble over."""
    found = chart.manifests("production")
    container = chart.pod_of(chart.one_of(found, "StatefulSet", "valkey"))["containers"][0]
    (port,) = free_ports(1)
    place = valkey_conf("production", tmp_path / "store", port)
    shell, flags, script = container["command"]
    script = script.replace("/etc/valkey/valkey.conf", str(place))
    script = script.replace(
        "exec valkey-server", f"exec {shutil.which('valkey-server') or shutil.which('redis-server')}"
    )
    password = "a \"b' $c `d` #e\\"
    env = {"PATH": "/usr/bin:/bin", "VALKEY_PASSWORD": password}
    server = await asyncio.create_subprocess_exec(shell, flags, script, env=env, stdout=DEVNULL)
    client = redis.asyncio.Redis(port=port, password=password)
    try:

        async def listening() -> bool:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                return bool(await client.set("{spillway}:a", "1"))
            return False

        await eventually(listening)
        assert password.encode() not in await asyncio.to_thread(Path(f"/proc/{server.pid}/cmdline").read_bytes)
        stranger = redis.asyncio.Redis(port=port)
        with pytest.raises(redis.exceptions.AuthenticationError):
            await stranger.get("{spillway}:a")
        await stranger.aclose()
    finally:
        await client.aclose()
        server.terminate()
        await server.wait()
