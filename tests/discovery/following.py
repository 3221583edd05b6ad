"""A Service that is followed against the stand-in API server, over real HTTP, with timings of a test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.cluster.access import Access
from proxy.discovery.api_client import HttpApi
from proxy.discovery.discovery import Discovery, Found
from proxy.discovery.kubernetes_source import Timings
from proxy.policy.discovery import KubernetesService
from proxy.policy.model import Lane, Target
from tests.apiserver import ApiServer, serving

VLLM = KubernetesService(service="vllm", namespace="inference")
QUICK = Timings(
    answer_s=2.0, watch_s=10.0, grace_s=0.5, first_pause_s=0.01, silent_pause_s=0.05, refused_pause_s=0.1, sound_s=0.1
)


def target(name: str, discovery: Any) -> Target:
    return Target(name=name, lane=Lane.DEDICATED, model="m", region="eu", discovery=discovery)


@dataclass
class Following:
    """What runs."""

    server: ApiServer
    access: Access
    discovery: Discovery
    told: list[Mapping[str, Found]]
    """What was found at each call of `changed`."""

    @property
    def found(self) -> Found:
        """Of the target `a`."""
        return self.discovery.found()["a"]

    def hosts(self, name: str = "a") -> set[str]:
        """The addresses of a target's replicas."""
        found = self.discovery.found().get(name)
        return set() if found is None else {url.split("/")[2].rsplit(":", 1)[0] for url in found.urls}

    async def until(self, holds: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until it holds."""
        await until(holds, within_s)


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def following(
    folder: Path,
    *targets: Target,
    begin: Callable[[ApiServer], None] = lambda server: None,
    draw: random.Random | None = None,
    timings: Timings = QUICK,
    first_answer_s: float = 2.0,
    **options: Any,
) -> AsyncIterator[Following]:
    """Targets of which `a` has the Service `vllm`, or those given, followed; `begin` is done to the server before."""
    told: list[Mapping[str, Found]] = []
    async with serving(folder, draw) as (server, access):
        begin(server)
        discovery = Discovery(
            targets or [target("a", VLLM)],
            lambda: told.append(discovery.found()),
            api=HttpApi(access),
            timings=timings,
            **options,
        )
        running = Following(server, access, discovery, told)
        try:
            await discovery.start(first_answer_s)
            yield running
        finally:
            await discovery.aclose()
