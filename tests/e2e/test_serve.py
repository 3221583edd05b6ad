"""`spillway serve` as a process: starting, being refused a start, serving with and without a store, and ending."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.processes import (
    CANARIES,
    CHAT,
    CLIENT_KEY,
    REDIS_PASSWORD,
    ask,
    engine,
    eventually,
    left_nothing,
    provider,
    running_in,
    serving,
    spawn,
    write_policy,
)
from tests.harness import read_reply, request_bytes
from tests.policy.corpus import BROKEN, ENV, expected

FIRST_REPLY_S = 3.0
"""One second on an idle machine; a busy one is given more."""


async def test_the_first_request_is_answered_soon_after_the_start_without_litellm(
    tmp_path: Path, record_property: object
) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, env={"INTERPRETER_OPTIONS": "-X importtime"}) as served:
            whole = await served.post(ask())
            took_s = time.monotonic() - served.started_at
            stream = await served.post(ask(stream=True))
            assert await served.stop() == 0
            imported = (served.folder / "err").read_text()
    sys.stdout.write(f"start to first reply: {took_s:.2f} s, with -X importtime\n")
    assert whole.json["object"] == "chat.completion"
    assert stream.events[-1] == "[DONE]"
    assert "proxy.relay" in imported
    assert "litellm" not in imported
    assert took_s < FIRST_REPLY_S


async def test_litellm_is_imported_once_a_translated_target_is_used(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\ntargets:\n  claude: {lane: shared, provider: anthropic, model: claude-sonnet-4-5,"
        " url: 'http://127.0.0.1:1', api_key: '${PROVIDER_KEY}'}\nmodels:\n  m: [claude]\n"
    )
    async with serving(policy) as served:
        before = loaded_by(served.process.pid)
        got = await served.post(ask())
        after = loaded_by(served.process.pid)
    assert "litellm" not in before
    assert "litellm" in after or "tiktoken" in after or "tokenizers" in after
    assert got.status in {502, 504}
    assert got.json["error"]["code"].startswith("upstream_")


def loaded_by(pid: int) -> str:
    """The shared objects in the process's memory: LiteLLM brings several along."""
    return "\n".join(line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if ".so" in line)


async def refused(path: Path, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--policy", str(path), "--port", "0", "--admin-port", "0"),
        env={"PATH": os.environ["PATH"], "SPILLWAY_DATA_DIR": str(folder), **ENV},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_no_broken_policy_is_served(tmp_path: Path) -> None:
    """Each names the file, the line, the mistake and a remedy; nothing is started for it."""
    turns = asyncio.Semaphore(4)

    async def check(path: Path) -> str | None:
        async with turns:
            status, output = await refused(path, tmp_path / "data")
        stated = expected(path)
        wanted = (f"{path}:{stated.line}:", stated.says, stated.hint, "not started")
        good = status == 1 and all(words in output for words in wanted) and "Traceback" not in output
        return None if good else f"{path.name}: {status}\n{output}"

    wrong = [one for one in await asyncio.gather(*map(check, BROKEN)) if one]
    assert wrong == []
    assert len(BROKEN) >= 30
    assert not (tmp_path / "data").exists()


async def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, gpu="http://127.0.0.1:1/v1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (("--port", str(port), "--admin-port", "0"), ("--port", "0", "--admin-port", str(port))):
            served = await spawn(policy, *options)
            assert await served.ended() == 1
            assert f"not started: cannot listen on 127.0.0.1:{port}: Address already in use" in served.said
            assert "Traceback" not in served.said
    await left_nothing(tmp_path)


async def test_nobody_is_served_for_free_on_the_network(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, gpu="http://127.0.0.1:1/v1")
    served = await spawn(policy, "--host", "0.0.0.0", "--port", "0", "--admin-port", "0")
    assert await served.ended() == 1
    assert "the policy has no `tenants` (hint:" in served.said
    opened = write_policy(tmp_path, gpu="http://127.0.0.1:1/v1", more="auth: none\n")
    async with serving(opened, tag="-open") as served:
        assert "at http://0.0.0.0:" in served.said


async def test_everything_can_be_said_in_the_environment(tmp_path: Path) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        env = {
            "SPILLWAY_POLICY": str(policy),
            "SPILLWAY_HOST": "127.0.0.1",
            "SPILLWAY_PORT": "0",
            "SPILLWAY_ADMIN_PORT": "0",
            "SPILLWAY_WORKERS": "1",
            "SPILLWAY_DATA_DIR": str(tmp_path / "elsewhere"),
        }
        async with serving(policy, env=env) as served:
            assert (await served.post(ask())).status == 200
            assert (tmp_path / "elsewhere").is_dir()
            assert not (tmp_path / "data").exists()
            assert await served.stop() == 0


async def test_a_store_out_of_reach_degrades_and_comes_back(tmp_path: Path) -> None:
    """Metering goes to memory meanwhile, and nothing of it is lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = shutil.which("valkey-server") or shutil.which("redis-server") or embedded_server()
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        url = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}/0"
        async with serving(policy, env={"SPILLWAY_REDIS_URL": url}) as served:
            assert (await served.post(ask())).status == 200
            ready = await served.ready()
            assert (ready["status"], list(ready["degraded"])) == ("ready", ["meters"])
            assert "spillway_redis_up 0.0" in await served.metrics()
            options = ("--port", str(port), "--requirepass", REDIS_PASSWORD, "--save", "", "--dir", str(tmp_path))
            store = await asyncio.create_subprocess_exec(server, *options, stdout=asyncio.subprocess.DEVNULL)
            try:
                await eventually(lambda: recovered(served))
                await eventually(lambda: has_counted_one(served))
                everything = await served.metrics() + json.dumps(await served.ready()) + served.said
                assert [canary for canary in CANARIES if canary in everything] == []
                assert await served.stop() == 0
            finally:
                store.terminate()
                await store.wait()


async def recovered(served: object) -> bool:
    return (await served.ready())["degraded"] == {}  # type: ignore[attr-defined]


async def has_counted_one(served: object) -> bool:
    """A store that lost track answers the first push with `behind`; the next one carries everything."""
    return (await served.meters()).get("gpu", {}).get("requests") == 1  # type: ignore[attr-defined]


def embedded_server() -> str:
    from proxy.meters.binary import find_server

    return str(find_server())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_an_idle_proxy_at_once(tmp_path: Path, number: int) -> None:
    async with engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url)) as served:
            assert (await served.post(ask())).status == 200
            assert len(running_in(tmp_path)) >= 2
            sent_at = time.monotonic()
            assert await served.stop(number) == 0
            assert time.monotonic() - sent_at < 5


async def test_sigterm_lets_a_stream_finish(tmp_path: Path) -> None:
    async with provider(tokens_per_s=40) as api:
        async with serving(write_policy(tmp_path, api=api.url)) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(request_bytes("POST", CHAT, json.dumps(ask(60, stream=True)).encode()))
            await reader.readuntil(b'"content":')
            served.process.send_signal(signal.SIGTERM)
            await eventually(lambda: draining(served))
            rest = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            assert await served.ended() == 0
    assert b"data: [DONE]" in rest


async def draining(served: object) -> bool:
    return (await served.ready())["status"] == "draining"  # type: ignore[attr-defined]


async def test_ctrl_c_cuts_a_long_stream_with_an_error_that_its_client_can_read(tmp_path: Path) -> None:
    async with provider(tokens_per_s=5) as api:
        async with serving(write_policy(tmp_path, api=api.url)) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(request_bytes("POST", CHAT, json.dumps(ask(1000, stream=True)).encode()))
            await reader.readuntil(b'"content":')
            sent_at = time.monotonic()
            served.process.send_signal(signal.SIGINT)
            rest = await reader.read()
            assert await served.ended() == 0
            took_s = time.monotonic() - sent_at
            writer.close()
        await asyncio.wait_for(api.ledger.until(lambda: api.ledger.totals.left == 1), 5)
    assert b'"code":"shutting_down"' in rest
    assert rest.endswith(b"0\r\n\r\n")
    assert took_s < 8
    assert "ERROR" not in served.said


async def test_a_tenant_of_europe_is_refused_by_name_when_europe_is_down(tmp_path: Path) -> None:
    digest = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
    more = (
        f"tenants:\n  bank: {{keys: ['sha256:{digest}'], tags: [gdpr]}}\n"
        "routes:\n  - {name: gdpr, match: {tags: [gdpr]}, require: {region: eu-*}}\n  - {name: default}\n"
    )
    async with provider() as api:
        policy = write_policy(tmp_path, gpu="http://127.0.0.1:1/v1", api=api.url, more=more)
        async with serving(policy) as served:
            served.headers["authorization"] = f"Bearer {CLIENT_KEY}"
            answers = [await served.post(ask()) for _ in range(20)]
            metrics = await served.metrics()
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(request_bytes("POST", CHAT, json.dumps(ask()).encode()))
            assert (await read_reply(reader)).status == 401
            writer.close()
            await served.stop()
    assert {got.status for got in answers} == {502, 503}
    last = answers[-1]
    assert (last.status, last.json["error"]["code"]) == (503, "no_lawful_target_available")
    assert "require.region" in last.json["error"]["message"]
    assert api.ledger.totals.requests == 0
    assert CLIENT_KEY not in metrics + str([got.headers for got in answers])
