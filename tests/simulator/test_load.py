"""The load: its curve, and what a plain OpenAI client makes of good and bad streams."""

from __future__ import annotations

import asyncio
from itertools import pairwise, takewhile
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.load import Load, LoadCurve, Turn, Visit
from tests.simulator.calls import FAST

CURVE = LoadCurve(low=2.0, high=10.0, period_s=40.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-spillway-lane: shared\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'


@pytest.mark.parametrize(
    ("at_s", "rate"), [(0, 2), (7.9, 2), (13, 6), (18, 10), (23.9, 10), (27, 6), (30, 2), (39, 2), (41, 2), (53, 6)]
)
def test_the_curve_rises_and_falls_and_begins_again(at_s: float, rate: float) -> None:
    assert CURVE.rate(at_s) == pytest.approx(rate)


@given(st.floats(0, 1000))
@example(24.0)
def test_the_curve_stays_between_low_and_high(at_s: float) -> None:
    assert CURVE.low <= CURVE.rate(at_s) <= CURVE.high


def test_arrivals_follow_the_curve() -> None:
    times = list(takewhile(lambda at_s: at_s < 40, CURVE.arrivals(Random(1))))
    assert all(later > earlier for earlier, later in pairwise(times))
    low = sum(at_s < 8 for at_s in times) / 8
    high = sum(18 <= at_s < 24 for at_s in times) / 6
    assert (low, high) == (pytest.approx(2, rel=0.25), pytest.approx(10, rel=0.25))


class Listening:
    """Keeps the turns, and says when a visit has ended."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.visit: Visit | None = None

    def __call__(self, visit: Visit, turn: Turn) -> None:
        self.turns.append(turn)
        self.visit = visit


async def test_a_visit_to_an_upstream_is_told_turn_by_turn() -> None:
    listening = Listening()
    async with EngineSimulator(FAST) as sim:
        load = Load(sim.url, sim.model, listening)
        load.send()
        await load.drain(within_s=10)
    visit = listening.visit
    assert listening.turns == [Turn.ANSWERED, Turn.BEGUN, Turn.ENDED]
    assert visit is not None
    assert (visit.status, visit.failure) == (200, None)
    assert visit.usage is not None
    assert visit.tokens == visit.usage["completion_tokens"] == sim.ledger.totals.output_tokens
    assert visit.usage["prompt_tokens"] == sim.ledger.totals.input_tokens
    assert visit.headers["server"].startswith("spillway-engine-simulator")


async def test_following_a_curve_sends_until_cancelled_and_lets_the_last_ones_finish() -> None:
    listening = Listening()
    async with EngineSimulator(FAST) as sim:
        load = Load(sim.url, sim.model, listening)
        following = asyncio.create_task(load.follow(LoadCurve(low=500.0, high=500.0, period_s=1.0)))
        await sim.ledger.until(lambda: sim.ledger.totals.requests >= 5)
        following.cancel()
        await load.drain(within_s=10)
        totals = sim.ledger.totals
    assert load.open == 0
    assert listening.turns.count(Turn.ENDED) == totals.requests >= 5
    assert totals.left == 0


async def visited(reply: bytes) -> tuple[Visit, list[Turn]]:
    """A visit to a server that says just this."""
    listening = Listening()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = Load(f"http://127.0.0.1:{port}/v1", "m", listening)
        load.send()
        await load.drain(within_s=10)
    assert listening.visit is not None
    return listening.visit, listening.turns


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (OK + b"content-length: 58\r\n\r\n" + TOKEN, "the stream ended without [DONE]"),
        (OK + b"content-length: 500\r\n\r\n" + TOKEN, "the connection broke before the reply was complete"),
        (OK + b'content-length: 21\r\n\r\ndata: {"error": {}}\n\n', "an error event in the stream"),
        (b"HTTP/1.1 503 Full\r\ncontent-length: 2\r\n\r\n{}", "status 503"),
        (b"hello\r\n\r\n", "the reply is not HTTP"),
        (b"", "the connection broke before the reply was complete"),
    ],
)
async def test_a_bad_answer_is_a_failure_that_says_why(reply: bytes, failure: str) -> None:
    visit, turns = await visited(reply)
    assert visit.failure == failure
    assert turns.count(Turn.ENDED) == 1


async def test_nobody_there_is_a_failure_too() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    listening = Listening()
    load = Load(f"http://127.0.0.1:{port}/v1", "m", listening)
    load.send()
    await load.drain(within_s=10)
    assert listening.visit is not None
    assert (listening.visit.failure or "").startswith("cannot connect: ")


async def test_hanging_up_is_nobodys_failure() -> None:
    listening = Listening()
    async with EngineSimulator(FAST, speed=0.01) as sim:
        load = Load(sim.url, sim.model, listening)
        load.send()
        await sim.ledger.until(lambda: sim.open_requests == 1)
        await load.drain(within_s=0.01)
        await sim.ledger.until(lambda: sim.open_requests == 0)
    assert Turn.ENDED not in listening.turns
    assert sim.ledger.totals.left == 1
