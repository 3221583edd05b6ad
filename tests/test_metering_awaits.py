"""With all of metering on, nothing on the path of a request waits for anything but its upstream.

The coroutine that serves it is stepped by hand: whatever it awaited would show as a step of its own.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from proxy.meters.embedded import EmbeddedStore
from proxy.routing.plan import Attempt
from proxy.upstream.base import Call, Sink

from tests.bench.metering import EVERYTHING, Metered, metered
from tests.bench.played import REPLY, Caller, Exchange, Network, Waited, call_of, served


class Slow(Network):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []

    def of(self, attempt: Attempt, call: Call) -> Slow:
        return self

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        self.sinks.append(sink)
        return self._EXCHANGE

    def answer(self) -> None:
        (sink,) = self.sinks
        sink.on_head(self._DOCUMENT)
        sink.on_data(REPLY)
        sink.on_end()


async def everything(folder: Path, stack: AsyncExitStack, network: Network | None = None) -> Metered:
    store = stack.enter_context(EmbeddedStore(folder / "store"))
    one = metered(EVERYTHING, folder / "journal", store.url, stack, network)
    await one.sync.sync()
    await one.sync.sync()
    return one


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_request_that_is_answered_at_once_never_yields(tmp_path: Path, stream: bool) -> None:
    async with AsyncExitStack() as stack:
        one = await everything(tmp_path, stack)
        facts = msgspec.structs.replace(one.facts, stream=stream)
        caller = Caller()
        served(one.relay, one.router, facts, call_of(facts), caller)
        assert caller.ended
        assert caller.refused is None
        assert b"x-ratelimit-remaining-requests" in dict(caller.headers)
        (counts,) = one.ledger.totals().values()
        assert counts[0] == 1
        assert [standing.spent_nano_usd > 0 for standing in one.escrow.standings(time.monotonic())] == [True, True]


async def test_a_request_reaches_its_upstream_in_one_step_and_ends_in_one_more(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        network = Slow()
        one = await everything(tmp_path, stack, network)
        caller = Caller()
        coroutine = one.relay.serve(one.router, one.facts, call_of(one.facts), caller, time.monotonic())
        coroutine.send(None)
        assert len(network.sinks) == 1
        assert any(standing.held_nano_usd for standing in one.escrow.standings(time.monotonic()))
        network.answer()
        assert caller.ended
        with pytest.raises(StopIteration):
            coroutine.send(None)
        (counts,) = one.ledger.totals().values()
        assert counts[0] == 1


async def test_a_wait_is_found_out(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one = await everything(tmp_path, stack, Slow())
        with pytest.raises(Waited):
            served(one.relay, one.router, one.facts, call_of(one.facts), Caller())
