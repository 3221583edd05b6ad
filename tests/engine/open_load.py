"""Requests that come when they come, whether or not those before them are answered; and how long each waited."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import httpx

WORDS = ["the", "and", "for", "are", "but", "not", "you", "all", "any", "can", "had", "her", "was", "one", "our"]
DRAWN_WORDS = 12
"""At random, with which every prompt begins: no prefix cache has seen it."""
LEAST_GAPS = 32
"""The pace of a short answer is that of so many gaps at least: a single late token is no pace."""


@dataclass(frozen=True)
class Ask:
    """A request that comes `at_s` after the beginning."""

    at_s: float
    input_words: int
    output_tokens: int


@dataclass(frozen=True)
class Served:
    """What became of one: the target, seconds to its first token and for each other, None if it was not answered."""

    ask: Ask
    target: str
    ttft_s: float | None
    pace_s: float


def arrivals(seed: int, seconds: float, per_s: float, sizes: Sequence[tuple[int, int]]) -> list[Ask]:
    """Poisson arrivals; each is one of `sizes`, (words, answer tokens), drawn evenly."""
    drawn, at_s, asks = random.Random(seed), 0.0, []
    while (at_s := at_s + drawn.expovariate(per_s)) < seconds:
        asks.append(Ask(at_s, *drawn.choice(sizes)))
    return asks


async def offer(url: str, key: str, model: str, asks: Sequence[Ask]) -> list[Served]:
    """Send each at its time."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=limits, trust_env=False) as http:
        started_s = monotonic()
        return await asyncio.gather(*[_one(http, model, ask, started_s) for ask in asks])


async def _one(http: httpx.AsyncClient, model: str, ask: Ask, started_s: float) -> Served:
    text = " ".join([*random.choices(WORDS, k=DRAWN_WORDS), *(WORDS * (ask.input_words // len(WORDS)))])
    body = {"model": model, "prompt": text, "max_tokens": ask.output_tokens, "ignore_eos": True, "stream": True}
    await asyncio.sleep(started_s + ask.at_s - monotonic())
    sent_s, times = monotonic(), []
    async with http.stream("POST", "/completions", json=body) as reply:
        target = reply.headers.get("x-spillway-target", "")
        async for part in reply.aiter_raw():
            times.append(monotonic())
            assert part
    if reply.status_code != 200:
        return Served(ask, target, None, 0.0)
    return Served(ask, target, times[0] - sent_s, (times[-1] - times[0]) / max(ask.output_tokens - 1, LEAST_GAPS))


def attainment(served: Sequence[Served], ttft_s: float, pace_s: float) -> float:
    """The share that was answered in time."""
    kept = [one.ttft_s is not None and one.ttft_s <= ttft_s and one.pace_s <= pace_s for one in served]
    return sum(kept) / len(kept)
