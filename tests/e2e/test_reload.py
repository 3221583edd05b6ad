"""The policy changes under load, well and badly, in every way that files change: nothing fails, nothing is mixed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.processes import CHAT, CLIENT_KEY, MODEL, Served, ask, engine, eventually, running_in, serving
from tests.harness import Reply, read_reply, request_bytes

REQUESTS_PER_S, CHURN_S, TEXTS_PER_S = 200, 30, 10
FLAT_KB = 4 * 1024
DIGEST = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()


def policy(name: str, url: str) -> str:
    """A policy in which everything that a reply or a log line shows is called by one name."""
    return f"""\
version: 1
targets:
  gpu-{name}:
    lane: dedicated
    engine: vllm
    url: {url}
    model: {MODEL}
    region: eu-west-1
models:
  m: [gpu-{name}]
tenants:
  {name}:
    keys: [sha256:{DIGEST}]
routes:
  - name: {name}-eu
    match: {{tags: [eu]}}
    require: {{region: eu-*}}
  - name: {name}
"""


def revision(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def broken(text: str) -> Iterator[str]:
    """What a policy must not be, over and over: unreadable, meaningless, cut anywhere, or nothing at all."""
    routes = text.index("routes:")
    while True:
        yield text.replace("models:", "models: [", 1)
        yield text.replace("lane: dedicated", "lane: sideways")
        yield text[:routes]
        yield ""
        yield text.replace("- name: ", "- nam: ", 1)
        yield text[: routes // 2]
        yield text[:-2]
        yield text.replace("m: [gpu-", "m: [cpu-")
        yield "\0" * len(text)
        yield text[: text.index("models:")]


def replace(path: Path, text: str) -> None:
    """Whole from the first moment, as `mv` and many editors do it."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.rename(path)


@dataclass
class Load:
    """Requests at a steady rate on kept connections, whatever becomes of those before."""

    served: Served
    replies: list[Reply] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self, per_s: float) -> AsyncIterator[None]:
        """As long as the block lasts; then every reply is awaited."""
        stopping = asyncio.Event()
        running = asyncio.create_task(self._run(per_s, stopping))
        try:
            yield
        finally:
            stopping.set()
            await running
            for _, writer in self._idle:
                writer.close()

    async def _run(self, per_s: float, stopping: asyncio.Event) -> None:
        started, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as requests:
            while not stopping.is_set():
                while number <= (time.monotonic() - started) * per_s:
                    requests.create_task(self._request(number))
                    number += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1 / per_s):
                        await stopping.wait()

    async def _request(self, number: int) -> None:
        body = json.dumps(ask(4, stream=number % 3 == 0)).encode()
        headers = {"authorization": f"Bearer {CLIENT_KEY}"}
        data = request_bytes("POST", CHAT, body, headers)
        # Some heads come well before their bodies: the policy may change in between.
        pieces = [data[: -len(body)], data[-len(body) :]] if number % 5 == 0 else [data]
        began = time.monotonic()
        try:
            reply = await self._sent(pieces)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failures.append(repr(error))
            return
        self.durations_s.append(time.monotonic() - began)
        self.replies.append(reply)

    async def _sent(self, pieces: list[bytes]) -> Reply:
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        writer.write(pieces[0])
        for piece in pieces[1:]:
            await asyncio.sleep(0.12)
            writer.write(piece)
        async with asyncio.timeout(20):
            reply = await read_reply(reader)
        self._idle.append((reader, writer))
        return reply

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.served.port)


def generation_of(reply: Reply) -> tuple[str, str, str]:
    return tuple(reply.headers.get(f"x-spillway-{name}", "") for name in ("policy", "route", "target"))  # type: ignore[return-value]


def logged(served: Served) -> set[tuple[str, str, str, str]]:
    """(policy, tenant, route, target) of every request in the log."""
    lines = [json.loads(line) for line in (served.folder / "out").read_text().splitlines()]
    return {(one["policy"], one["tenant"], one["route"], one["attempts"][0]["target"]) for one in lines}


def belong_together(**texts: str) -> set[tuple[str, str, str]]:
    """The generations that there may be, by the names of their policies."""
    return {(revision(text), name, f"gpu-{name}") for name, text in texts.items()}


def resident_kb(served: Served) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{served.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def sample(served: Served, name: str) -> float:
    found = re.search(rf"^spillway_{name} (\S+)$", await served.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def is_served(served: Served, text: str) -> bool:
    ready = await served.ready()
    return bool(ready["policy"]["revision"] == revision(text))


async def serves_within(served: Served, text: str, within_s: float) -> None:
    await eventually(lambda: is_served(served, text), within_s)


@contextlib.asynccontextmanager
async def started(
    folder: Path, write: Callable[[str, str], str], *options: str
) -> AsyncIterator[tuple[Served, str, str]]:
    """A proxy that serves the policy `a`, and the texts of `a` and of `b`; `write` puts the first on the disk."""
    async with engine() as one, engine() as two:
        a, b = policy("a", one.url), policy("b", two.url)
        async with serving(Path(write(a, b)), *options) as served:
            served.headers["authorization"] = f"Bearer {CLIENT_KEY}"
            yield served, a, b


def in_a_file(folder: Path) -> Callable[[str, str], str]:
    def write(a: str, b: str) -> str:
        path = folder / "policy.yaml"
        path.write_text(a)
        return str(path)

    return write


async def test_ten_texts_a_second_half_of_them_broken_disturb_nobody(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    async with started(tmp_path, in_a_file(tmp_path)) as (served, a, b):
        load, good, bad = Load(served), (a, b), broken(b)
        async with load.running(REQUESTS_PER_S):
            began, early_kb = time.monotonic(), 0
            for number in range(CHURN_S * TEXTS_PER_S):
                replace(path, next(bad) if number % 2 else good[number // 2 % 2])
                if number == CHURN_S * TEXTS_PER_S // 4:
                    early_kb = resident_kb(served)
                await asyncio.sleep(began + (number + 1) / TEXTS_PER_S - time.monotonic())
            late_kb = resident_kb(served)
            last = policy("c", re.findall(r"url: (\S+)", b)[0])
            replace(path, last)
            await serves_within(served, last, 2.0)
        adopted, refused = (
            await sample(served, "policy_generation"),
            await sample(served, "policy_reload_failures_total"),
        )
        assert (await served.post(ask())).headers["x-spillway-route"] == "c"
        assert await served.stop() == 0
        lines = logged(served)
    allowed = belong_together(a=a, b=b, c=last)
    assert load.failures == []
    assert {(one.status, one.complete) for one in load.replies} == {(200, True)}
    assert len(load.replies) >= 0.9 * CHURN_S * REQUESTS_PER_S
    assert {generation_of(one) for one in load.replies} | allowed == allowed
    assert lines == {(policy, name, name, target) for policy, name, target in allowed}
    assert adopted >= 20
    assert refused >= 10
    assert late_kb - early_kb < FLAT_KB, (early_kb, late_kb)


def split(text: str) -> dict[str, str]:
    """A policy as two files; those of two policies together are a policy that nobody wrote, and valid."""
    at = text.index("tenants:")
    return {"10-targets.yaml": text[:at], "20-routes.yaml": text[at:]}


def mounted(folder: Path, text: str) -> None:
    """What the kubelet does when a ConfigMap has changed: a new folder, a swapped link, the old folder removed."""
    link = folder / "..data"
    before = link.resolve() if link.exists() else None
    dated = folder / f"..{time.time_ns()}"
    dated.mkdir()
    for name, part in split(text).items():
        (dated / name).write_text(part)
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(f"..data/{name}")
    beside = folder / "..data_tmp"
    beside.symlink_to(dated.name)
    beside.rename(link)
    if before is not None:
        for name in split(text):
            (before / name).unlink()
        before.rmdir()


def folder_revision(text: str) -> str:
    """`sha256sum *.yaml | sha256sum`, shortened."""
    listing = [f"{hashlib.sha256(part.encode()).hexdigest()}  {name}\n" for name, part in split(text).items()]
    return revision("".join(listing))


async def test_a_configmap_is_swapped_whole(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()

    def mount(a: str, b: str) -> str:
        mounted(folder, a)
        return str(folder)

    async with started(tmp_path, mount) as (served, a, b):
        load = Load(served)
        async with load.running(REQUESTS_PER_S / 2):
            for number in range(20):
                mounted(folder, (b, a)[number % 2])
                await asyncio.sleep(0.2)
            mounted(folder, b)
            await eventually(lambda: served_revision(served, folder_revision(b)), 2.0)
        adopted = await sample(served, "policy_generation")
        refused = await sample(served, "policy_reload_failures_total")
        load.replies.append(await served.post(ask()))
        await eventually(lambda: all_counted(served, len(load.replies)))
        assert await served.stop() == 0
    assert load.replies[-1].headers["x-spillway-route"] == "b"
    allowed = {(folder_revision(text), name, f"gpu-{name}") for name, text in (("a", a), ("b", b))}
    assert load.failures == []
    assert {one.status for one in load.replies} == {200}
    assert {generation_of(one) for one in load.replies} == allowed
    assert (adopted >= 10, refused) == (True, 0)


async def all_counted(served: Served, requests: int) -> bool:
    """Whether the store knows of every request under either policy, and GPU time of both their targets."""
    held = await served.meters()
    return (
        held.keys() == {"gpu-a", "gpu-b"}
        and sum(one["requests"] for one in held.values()) == requests
        and all(one["replica_hours"] > 0 for one in held.values())
    )


async def served_revision(served: Served, wanted: str) -> bool:
    return bool((await served.ready())["policy"]["revision"] == wanted)


async def write_slowly(path: Path, text: str) -> None:
    """A byte at a time into the file itself, pausing where what is there already is a policy without its gates."""
    with path.open("w") as file:
        for at, letter in enumerate(text):
            if text.startswith(("models:", "routes:"), at):
                await asyncio.sleep(0.6)
            file.write(letter)
            file.flush()
            await asyncio.sleep(0.001)


async def test_a_file_written_in_place_counts_when_it_is_whole_and_one_that_was_cut_never(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    async with started(tmp_path, in_a_file(tmp_path)) as (served, a, b):
        load = Load(served)
        async with load.running(REQUESTS_PER_S / 4):
            await write_slowly(path, b)
            await serves_within(served, b, 3.0)
            load.replies.append(await served.post(ask()))
        assert await sample(served, "policy_generation") == 2
        assert await sample(served, "policy_reload_failures_total") == 0
        path.write_text(b[: b.index("routes:")])
        ready = await eventually(lambda: refusing(served))
        assert await sample(served, "policy_reload_failures_total") == 1
        path.write_text(b)
        await eventually(lambda: at_peace(served))
        assert await sample(served, "policy_generation") == 2
        assert await served.stop() == 0
        said = served.said
    allowed = belong_together(a=a, b=b)
    assert load.failures == []
    assert {generation_of(one) for one in load.replies} == allowed
    assert ready["status"] == "ready"
    assert ready["policy"]["revision"] == revision(b)
    (problem,) = ready["policy"]["error"]["problems"]
    assert problem.startswith(f"{path}:{b[: b.index('routes:')].count(chr(10)) + 1}:1: the file ends where")
    assert said.count("the new text has mistakes") == 1


async def refusing(served: Served) -> object:
    ready = await served.ready()
    return ready if ready["policy"]["error"] else None


async def at_peace(served: Served) -> bool:
    return (await served.ready())["policy"]["error"] is None


async def test_every_worker_follows_and_one_that_starts_later_begins_with_the_last_good_text(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    async with started(tmp_path, in_a_file(tmp_path), "--workers", "2") as (served, a, b):
        replace(path, b)
        await eventually(lambda: all_serve(served, b))
        replace(path, a.replace("lane: dedicated", "lane: sideways"))
        await eventually(lambda: refusing(served))
        before = workers_of(served, tmp_path)
        os.kill(before[0], signal.SIGKILL)
        await eventually(lambda: replaced(served, tmp_path, before))
        await eventually(lambda: all_serve(served, b))
        got = [await served.post(ask()) for _ in range(10)]
        assert {generation_of(one) for one in got} == belong_together(b=b)
        replace(path, a)
        await eventually(lambda: all_serve(served, a))
        assert await served.stop() == 0
        assert served.said.count("ended by itself") == 1


async def all_serve(served: Served, text: str) -> bool:
    metrics = await served.metrics()
    found = re.findall(r'^spillway_policy_info\{revision="(\w+)",worker="(\d)"\} 1', metrics, re.MULTILINE)
    return sorted(found) == [(revision(text), "0"), (revision(text), "1")]


def workers_of(served: Served, folder: Path) -> list[int]:
    return [pid for pid, words in running_in(folder).items() if "spawn_main" in words and pid != served.process.pid]


async def replaced(served: Served, folder: Path, before: list[int]) -> bool:
    now = workers_of(served, folder)
    return len(now) == 2 and before[0] not in now
