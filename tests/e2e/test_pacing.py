"""Two proxies share a limit: three times a provider's own is offered, and there is hardly a 429, and the quota is used.

The periods are ten seconds rather than a minute, with their part of a minute's quota, to keep the test short.
`SPILLWAY_PACING_PERIOD_S=60` plays a minute as it is, `SPILLWAY_PACING_RPM=1000` the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from proxy.meters.embedded import EmbeddedStore
from proxy.simulator.provider import ProviderSimulator, Terms
from tests.e2e.processes import CLIENT_KEY, MODEL, PROVIDER_KEY, Served, ask, eventually, serving
from tests.harness import Reply

RPM = int(os.environ.get("SPILLWAY_PACING_RPM", "2000"))
PERIOD_S = float(os.environ.get("SPILLWAY_PACING_PERIOD_S", "10"))
PERIODS = 3 if PERIOD_S < 60 else 1.1
OFFERED = 3
_log = logging.getLogger(__name__)

PACE = {"ttft_median_s": 0.05, "ttft_p99_s": 0.2, "tokens_per_s": 1000.0}
TERMS = {
    "bucket": Terms(**PACE, rpm=RPM, period_s=PERIOD_S),
    "window": Terms(**PACE, rpm=RPM, period_s=PERIOD_S, fixed_window=True),
    "silent": Terms(**PACE),
}
"""How each provider counts; of `silent` only the policy has a limit, so that the proxies have but each other's word."""


@contextlib.asynccontextmanager
async def providers(*names: str) -> AsyncIterator[dict[str, ProviderSimulator]]:
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                ProviderSimulator(TERMS[name], model=MODEL, api_key=PROVIDER_KEY, natural_tokens=5)
            )
            for name in names
        }


@contextlib.asynccontextmanager
async def two_proxies(folder: Path, policy: str, env: Mapping[str, str]) -> AsyncIterator[tuple[Served, Served]]:
    """Two processes with a policy and a data folder each."""
    async with contextlib.AsyncExitStack() as stack:
        served = []
        for tag in ("one", "two"):
            (folder / tag).mkdir()
            (folder / tag / "policy.yaml").write_text(policy)
            served.append(await stack.enter_async_context(serving(folder / tag / "policy.yaml", env=env, tag=tag)))
        yield served[0], served[1]


def policy_of(urls: Mapping[str, str]) -> str:
    text = "version: 1\ntargets:\n"
    for name, url in urls.items():
        limits = f", limits: {{rpm: {RPM}}}" if name == "silent" else ""
        text += (
            f"  {name}: {{lane: shared, provider: openai, url: '{url}', model: {MODEL}, api_key: '${{PROVIDER_KEY}}',"
            f" region: us, retention: 30d, price: {{input: 0.5, output: 1.5}}{limits}}}\n"
        )
    return text + "models:\n" + "".join(f"  {name}: [{name}]\n" for name in urls)


async def offer(proxies: tuple[Served, Served], model: str, lasting_s: float) -> Counter[int]:
    """Requests at an even pace, to one proxy and the other in turn, whatever becomes of them."""
    loop = asyncio.get_running_loop()
    began_s, gap_s = loop.time(), 60.0 / (OFFERED * RPM)
    async with asyncio.TaskGroup() as group:
        asked = []
        for serial in range(int(lasting_s / gap_s)):
            await asyncio.sleep(began_s + serial * gap_s - loop.time())
            asked.append(group.create_task(proxies[serial % 2].post(ask(5, model=model, stream=serial % 4 < 2))))
    return Counter(task.result().status for task in asked)


def check(name: str, provider: ProviderSimulator, answers: Counter[int]) -> None:
    """By the provider's own ledger: at most 1 % refused, and at least 90 % of each period's quota used."""
    entries = list(provider.ledger.entries)
    refused = [entry for entry in entries if entry.status == 429]
    accepted = [entry.arrived_s - entries[0].arrived_s for entry in entries if entry.status == 200]
    periods = Counter(int(at // PERIOD_S) for at in accepted)
    quota = RPM * PERIOD_S / 60
    said = f"{name}: {len(entries)} sent, {len(refused)} refused, {dict(periods)} of {quota:.0f}, {dict(answers)}"
    _log.info("%s", said)
    assert len(refused) <= 0.01 * len(entries), said
    for period in range(int(PERIODS)):
        assert periods[period] >= 0.9 * quota, said
    assert answers[200] == len(accepted), said
    assert set(answers) == {200, 503}, said


def check_silent(provider: ProviderSimulator, lasting_s: float) -> None:
    """The policy's limit lets half a minute's worth pass at once, the rest evenly; two limits would let more pass."""
    sent = [entry.arrived_s for entry in provider.ledger.entries]
    _log.info("silent: %d sent, limit %d a minute, in %.0f s", len(sent), RPM, lasting_s)
    assert len(sent) >= 0.55 * RPM
    for start in sent[::50]:
        since = [at - start for at in sent if start <= at < start + 60]
        assert len(since) <= RPM
    assert sum(1 for at in sent if at < sent[0] + 30) <= 0.75 * RPM


@pytest.mark.parametrize("sharing", [True, False], ids=["with one store", "apart"])
async def test_two_proxies_use_a_quota_without_overrunning_it(tmp_path: Path, sharing: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        env = {}
        if sharing:
            (tmp_path / "store").mkdir()
            env["SPILLWAY_REDIS_URL"] = stack.enter_context(EmbeddedStore(tmp_path / "store")).url
        api = await stack.enter_async_context(providers(*TERMS if sharing else ("bucket", "window")))
        policy = policy_of({name: one.url for name, one in api.items()})
        proxies = await stack.enter_async_context(two_proxies(tmp_path, policy, env))
        lasting_s = PERIODS * PERIOD_S + 0.5
        answers = await asyncio.gather(*(offer(proxies, name, lasting_s) for name in api))
    for (name, provider), one in zip(api.items(), answers, strict=True):
        if name == "silent":
            check_silent(provider, lasting_s)
        else:
            check(name, provider, one)


TENANTS = f"""
tenants:
  bank: {{keys: ["sha256:{hashlib.sha256(CLIENT_KEY.encode()).hexdigest()}"], rpm: 20}}
"""


async def test_a_tenants_minute_is_the_same_at_every_proxy(tmp_path: Path) -> None:
    """What one proxy has served counts at the other one as soon as both have synced."""
    async with contextlib.AsyncExitStack() as stack:
        (tmp_path / "store").mkdir()
        env = {"SPILLWAY_REDIS_URL": stack.enter_context(EmbeddedStore(tmp_path / "store")).url}
        api = await stack.enter_async_context(providers("silent"))
        policy = policy_of({"silent": api["silent"].url}) + TENANTS
        first, second = await stack.enter_async_context(two_proxies(tmp_path, policy, env))
        first.headers = second.headers = {"authorization": f"Bearer {CLIENT_KEY}"}
        served = [(await first.post(ask(5, model="silent"))).status for _ in range(19)]

        async def refused_at_the_second() -> bool:
            served.append((await second.post(ask(5, model="silent"))).status)
            return served[-1] == 429

        async def refused_at_the_first() -> Reply | None:
            reply = await first.post(ask(5, model="silent"))
            return reply if reply.status == 429 else None

        await eventually(refused_at_the_second)
        told: Reply = await eventually(refused_at_the_first)
    assert set(served[:-1]) == {200}
    assert 19 <= len(served) - 1 < 39, "two limits of 20 let 39 pass"
    assert told.json["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(told.headers["retry-after"]) <= 61
