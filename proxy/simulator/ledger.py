"""What a simulated upstream knows to be true: tokens, money and times of every request, to hold meters against.

Theory of operation
-------------------
An entry is opened when a request arrives and is kept up to date while it is answered, so its `output_tokens` are what
was generated even when the client left half-way. Totals count every request since the start; entries are bounded.
Times are `time.monotonic()` seconds, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

import msgspec

from proxy.simulator.asks import Ask


class Entry(msgspec.Struct, kw_only=True):
    """One request. `left_s` is when its peer closed the connection before the answer was complete."""

    reply_id: str
    request_id: str
    path: str
    model: str
    stream: bool
    arrived_s: float
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    first_token_s: float | None = None
    ended_s: float | None = None
    left_s: float | None = None


class Totals(msgspec.Struct, kw_only=True):
    """Sums over all requests; `refused` were answered with an error status, `left` lost their client half-way."""

    requests: int = 0
    refused: int = 0
    left: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0


class Ledger:
    """All requests of one simulator. Prices are nano-USD per million tokens; an engine's tokens have none."""

    def __init__(self, *, input_price: int = 0, output_price: int = 0, keep: int = 100_000) -> None:
        self.entries: deque[Entry] = deque(maxlen=keep)
        self._ended = Totals()
        self._open: dict[str, Entry] = {}
        self._change: asyncio.Event | None = None  # only while somebody waits for one
        self._input_price = input_price
        self._output_price = output_price

    @property
    def open(self) -> int:
        """Requests that are being answered, or wait for it."""
        return len(self._open)

    @property
    def totals(self) -> Totals:
        """Sums up to now, the open requests' tokens included."""
        sums = msgspec.structs.replace(self._ended)
        for entry in self._open.values():
            self._add(sums, entry)
        return sums

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; it is tried again after every change of the ledger."""
        while not condition():
            self._change = self._change or asyncio.Event()
            await self._change.wait()

    def arrive(self, ask: Ask, reply_id: str, request_id: str) -> Entry:
        """A request is here."""
        entry = Entry(
            reply_id=reply_id,
            request_id=request_id,
            path=ask.path,
            model=ask.model,
            stream=ask.stream,
            arrived_s=monotonic(),
        )
        self.entries.append(entry)
        self._open[reply_id] = entry
        self._changed()
        return entry

    def accept(self, entry: Entry, input_tokens: int) -> None:
        """It will be answered, and its prompt is paid for."""
        entry.status = 200
        entry.input_tokens = input_tokens
        self._price(entry)

    def emit(self, entry: Entry, output_tokens: int) -> None:
        """So many tokens have been generated for it."""
        if entry.first_token_s is None:
            entry.first_token_s = monotonic()
        entry.output_tokens = output_tokens
        self._price(entry)
        self._changed()

    def end(self, entry: Entry, status: int) -> None:
        """It is answered in full, by a refusal perhaps."""
        entry.status = status
        entry.ended_s = monotonic()
        self._close(entry)

    def leave(self, entry: Entry) -> None:
        """Its peer is gone."""
        entry.left_s = monotonic()
        self._close(entry)

    def _price(self, entry: Entry) -> None:
        owed = entry.input_tokens * self._input_price + entry.output_tokens * self._output_price
        entry.nano_usd = owed // 1_000_000

    def _close(self, entry: Entry) -> None:
        if self._open.pop(entry.reply_id, None) is not None:
            self._add(self._ended, entry)
            self._changed()

    def _changed(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None

    @staticmethod
    def _add(sums: Totals, entry: Entry) -> None:
        sums.requests += 1
        sums.refused += entry.status >= 400
        sums.left += entry.left_s is not None
        sums.input_tokens += entry.input_tokens
        sums.output_tokens += entry.output_tokens
        sums.nano_usd += entry.nano_usd
