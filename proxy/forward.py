"""One attempt: an upstream's bytes on their way to the client, and the point after which nothing is retried.

Theory of operation
-------------------
A `Forward` is the `Sink` of one exchange. All its steps run inside the upstream's read callback; the relay's coroutine
sleeps on `done` meanwhile. Two shapes of reply:

* a stream is held back until its first *content* event, then sent as it comes. That event is the commit point: before
  it another target may be tried, after it a failure can only be reported, as an error event in the caller's protocol;
* any other 2xx is held whole and sent at its end, so a reply that breaks is never half sent and can be tried elsewhere.

`hear` gets the head of the reply, as soon as it is there: a stream may last, and it tells of the next requests. `first`
is told when the content of a stream begins.
`progress` is told a few times a second how many events have passed, in case this process does not live to the end.
`cancelled` is told how long the upstream's connection was open after the client had left, or had another answer.
`settle` is called exactly once per attempt, at its end and before the last bytes are sent, because the charge goes out
in a header when there is still one to send. `done` then gets the `Ending`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from proxy.breakdowns import failure_of_break, refusal_of_breakdown
from proxy.caller import Client, FixedHeaders
from proxy.edges import Upstreams
from proxy.meters.hold import NEVER, Hold
from proxy.policy.model import Endpoint, Lane
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Refusal
from proxy.upstream.base import Call, Exchange, Head
from proxy.upstream.errors import UpstreamError
from proxy.upstream.reckoning import Seen, TokensPerEvent, has_begun, reckon
from proxy.upstream.rejection import MAX_ERROR_BYTES, failure_in_stream, failure_of, refusal_of, retry_after_s
from proxy.upstream.sse import EventTooLong, Splitter
from proxy.upstream.tap import Tap
from proxy.upstream.usage import read_usage

KEEP_ALIVE_S = 10.0
"""How long a client of a stream waits before it is told, by a comment, that it is still being served."""
MAX_REPLY_BYTES = 64 << 20
_UNWANTED = frozenset({Failure.CLIENT_LEFT, Failure.OUTRUN})


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended; `refusal` is what to tell the client if nothing else is tried."""

    outcome: Outcome
    charge: Charge
    refusal: Refusal | None


class Forward:
    """See the module's text. `deadline` and `check()` are the sweeper's (`deadlines.py`)."""

    __slots__ = (
        "_ask_at",
        "_attempt",
        "_body",
        "_call",
        "_cancelled",
        "_client",
        "_committed",
        "_ended",
        "_exchange",
        "_facts",
        "_first",
        "_first_at",
        "_head",
        "_headers",
        "_hear",
        "_held",
        "_hold",
        "_keep_alive_at",
        "_last_at",
        "_paused",
        "_per_event",
        "_progress",
        "_settle",
        "_size",
        "_splitter",
        "_started_at",
        "_tap",
        "deadline",
        "done",
        "ending",
    )

    def __init__(
        self,
        attempt: Attempt,
        call: Call,
        client: Client,
        *,
        facts: Facts,
        per_event: TokensPerEvent,
        headers: FixedHeaders,
        settle: Callable[[Outcome], Charge],
        progress: Callable[[int], None] | None = None,
        hear: Callable[[Head], None] | None = None,
        first: Callable[[float], None] | None = None,
        cancelled: Callable[[Lane, float], None] | None = None,
        hold: Hold | None = None,
        done: asyncio.Future[None],
        now: float,
    ) -> None:
        self._attempt = attempt
        self._call = call
        self._client = client
        self._facts = facts
        self._per_event = per_event
        self._headers = headers
        self._settle = settle
        self._progress = progress
        self._hear = hear
        self._first = first
        self._cancelled = cancelled
        self._hold = hold
        self._ask_at = NEVER if hold is None else 1
        self._started_at = self._last_at = now
        self._first_at = 0.0
        self._keep_alive_at = now + KEEP_ALIVE_S
        timeouts = attempt.target.timeouts
        self.deadline = now + (timeouts.first_token_s if call.stream else timeouts.total_s)
        self.done = done
        self.ending: Ending | None = None
        self._exchange: Exchange | None = None
        self._head: Head | None = None
        self._tap: Tap | None = None
        self._splitter: Splitter | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._held = b""
        self._committed = self._ended = self._paused = False

    def send(self, upstreams: Upstreams) -> None:
        """Begin at the attempt's upstream, unless nobody is there to be answered any more."""
        if self._client.left:
            self.on_client_left()
        else:
            self.begin(upstreams.of(self._attempt, self._call).open(self._attempt, self._call, self))

    def begin(self, exchange: Exchange) -> None:
        """Give the forward its handle on the upstream, which may have failed already."""
        self._exchange = exchange
        if self._ended:
            exchange.abort()

    def abandon(self) -> None:
        """The relay's coroutine is leaving, cancelled perhaps: settle what is still open. Harmless after the end."""
        self._fail(Failure.SHUT_DOWN, "the proxy is shutting down")
        # The exchange knows its sink: left together they are garbage that only a full collection finds.
        self._exchange = None

    def outrun(self, by: str) -> None:
        """Another attempt, at the target `by`, had something for the client first: this one is not wanted any more."""
        self._fail(Failure.OUTRUN, f"{by} answered first")

    # the upstream's side

    def on_head(self, head: Head) -> None:
        self._head = head
        if self._hear is not None:
            self._hear(head)
        if head.status == 200 and self._call.stream and b"event-stream" in (head.get(b"content-type") or b""):
            self._splitter = Splitter()
            self._tap = Tap(self._call.endpoint, usage_wanted=self._call.usage_wanted)

    def on_data(self, data: bytes) -> None:
        tap = self._tap
        if tap is None:
            self._collect(data)
            return
        assert self._splitter is not None
        self._last_at = time.monotonic()
        try:
            block = tap.feed(self._splitter.feed(data))
        except EventTooLong as error:
            self._fail(Failure.PROTOCOL, str(error))
            return
        if tap.chunks >= self._ask_at and not self._affords(tap):
            return
        if self._committed:
            if block and not self._client.write(block) and self._exchange is not None:
                self._paused = True
                self._exchange.pause()
            if tap.error is None:
                return
        self._before_commit(tap, block)

    def on_end(self) -> None:
        if self._head is None:
            self._fail(Failure.PROTOCOL, "closed without a reply")
        elif self._tap is not None:
            self._end_stream(self._tap)
        elif 200 <= self._head.status < 300:
            self._reply(self._head)
        else:
            self._rejected(self._head)

    def on_failure(self, error: UpstreamError) -> None:
        broken = error.failure is Failure.BROKEN
        self._fail(self._when_broken() if broken else error.failure, error.detail)

    # the client's side

    def on_client_left(self) -> None:
        self._fail(Failure.CLIENT_LEFT, "client closed the connection")

    def on_client_ready(self) -> None:
        if self._paused and not self._ended and self._exchange is not None:
            self._paused = False
            self._last_at = time.monotonic()
            self._exchange.resume()

    # the sweeper's side

    def check(self, now: float) -> None:
        """Called a few times a second: enforce deadlines, and comfort a waiting client."""
        if self._progress is not None and self._tap is not None:
            self._progress(self._tap.chunks)
        timeouts = self._attempt.target.timeouts
        if self._committed and now - self._started_at < timeouts.total_s:
            if now - self._last_at > timeouts.idle_s and not self._paused:
                self._fail(Failure.IDLE_TIMEOUT, f"no token for {timeouts.idle_s:g} s")
        elif now > self.deadline:
            early = self._call.stream and not self._committed
            failure = Failure.FIRST_TOKEN_TIMEOUT if early else Failure.TOTAL_TIMEOUT
            self._fail(failure, f"not answered within {now - self._started_at:.1f} s")
        elif self._call.stream and now > self._keep_alive_at:
            self._keep_alive_at = now + KEEP_ALIVE_S
            self._client.ping()

    # steps

    def _affords(self, tap: Tap) -> bool:
        """Have more set aside for what is to come; end the attempt when there is not even enough for what came."""
        if tap.done or self._hold is None:
            return True
        self._ask_at = self._hold.top_up(tap.chunks, self._last_at)
        if not self._ask_at:
            self._fail(Failure.BUDGET, "the budget is used up")
        return bool(self._ask_at)

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        assert self._head is not None
        if self._head.status >= 300 and self._size > MAX_ERROR_BYTES:
            return
        if self._size > MAX_REPLY_BYTES:
            self._fail(Failure.PROTOCOL, f"reply of more than {MAX_REPLY_BYTES} bytes")
            return
        self._body.append(data)

    def _before_commit(self, tap: Tap, block: bytes) -> None:
        if tap.error is not None:
            failure, message = failure_in_stream(tap.error), tap.error.get("message")
            self._fail(failure, "error in the stream", message if isinstance(message, str) else "")
            return
        self._held += block
        if not tap.content:
            return
        self._committed = True
        self._first_at = self._last_at
        if self._first is not None:
            self._first(self._first_at)
        self.deadline = self._started_at + self._attempt.target.timeouts.total_s
        if not self._client.started:
            self._client.start(200, [], _STREAM_HEADERS + self._headers)
        self._client.write(self._held)
        self._held = b""

    def _end_stream(self, tap: Tap) -> None:
        assert self._splitter is not None
        rest = tap.feed(self._splitter.finish())
        if rest:
            self._before_commit(tap, rest) if not self._committed else self._client.write(rest)
        if self._ended:
            return
        if self._splitter.incomplete or not tap.close() or not self._committed:
            self._fail(self._when_broken(), "the stream ended early")
            return
        self._conclude(200, None, "")
        self._client.end(tap.flush())

    def _reply(self, head: Head) -> None:
        if self._client.started:
            # A keep-alive has promised the client a stream, and a document cannot stand in one.
            self._fail(Failure.PROTOCOL, "answered with no stream where one was asked for")
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        usage = read_usage(body)
        self._first_at = self._last_at = time.monotonic()
        self._committed = True
        charge = self._conclude(head.status, None, "", usage=usage)
        headers = [
            (b"content-type", head.get(b"content-type") or b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if charge.priced:
            headers.append((b"x-spillway-cost-usd", b"%d.%09d" % divmod(charge.nano_usd, 1_000_000_000)))
            headers.append((b"x-spillway-cost-basis", charge.price_source.encode()))
        self._client.start(head.status, headers, self._headers)
        self._client.end(body)

    def _rejected(self, head: Head) -> None:
        body = b"".join(self._body)
        refusal = refusal_of(self._attempt.target, self._call.endpoint, head.status, body)
        failure = failure_of(head.status)
        wait_s = retry_after_s(head, time.time())
        if wait_s is not None and failure is Failure.FULL:
            refusal = msgspec.structs.replace(refusal, retry_after_s=wait_s)
        self._conclude(head.status, failure, f"answered {head.status}", refusal=refusal, retry_after=wait_s)

    def _when_broken(self) -> Failure:
        announced = self._tap is not None and self._tap.chunks > 0 and not self._committed
        return failure_of_break(self._attempt, self._call.endpoint, announced=announced)

    def _fail(self, failure: Failure, detail: str, message: str = "") -> None:
        if self._ended:
            return
        if self._exchange is not None:
            self._exchange.abort(self._when_gone() if failure in _UNWANTED else None)
        refusal = refusal_of_breakdown(self._attempt, failure, message or detail)
        self._conclude(self._head.status if self._head else None, failure, detail, refusal=refusal)

    def _when_gone(self) -> Callable[[], None] | None:
        """What to call when the upstream's connection is closed, nobody wanting the rest since now."""
        cancelled, lane, since = self._cancelled, self._attempt.target.lane, time.monotonic()
        return None if cancelled is None else lambda: cancelled(lane, time.monotonic() - since)

    def _conclude(
        self,
        status: int | None,
        failure: Failure | None,
        detail: str,
        *,
        usage: Usage | None = None,
        refusal: Refusal | None = None,
        retry_after: float | None = None,
    ) -> Charge:
        self._ended = True
        now = time.monotonic()
        tap = self._tap
        outcome = Outcome(
            attempt=self._attempt,
            status=status,
            failure=failure,
            committed=self._committed,
            total_s=now - self._started_at,
            ttft_s=self._first_at - self._started_at if self._first_at and tap is not None else None,
            itl_s=self._mean_gap_s(),
            usage=self._usage(usage, failure),
            retry_after_s=retry_after,
            detail=detail,
            started_at=self._started_at,
        )
        charge = self._settle(outcome)
        self.ending = Ending(outcome, charge, refusal)
        if not self.done.done():
            self.done.set_result(None)
        return charge

    def _mean_gap_s(self) -> float | None:
        if self._tap is None or self._tap.chunks < 3 or not self._first_at:
            return None
        return (self._last_at - self._first_at) / (self._tap.chunks - 1)

    def _usage(self, found: Usage | None, failure: Failure | None) -> Usage:
        """What was used: as reported, else by the rule of `reckoning`."""
        if self._call.endpoint is Endpoint.COUNT_TOKENS:
            return Usage()
        tap, head, facts = self._tap, self._head, self._facts
        error_came_first = tap is not None and tap.error is not None and not tap.content
        seen = Seen(
            target=self._attempt.target.name,
            input_tokens=facts.input_tokens,
            allowed_tokens=None if facts.max_output_tokens is None else facts.max_output_tokens * facts.choices,
            events=0 if tap is None else tap.texts,
            size_bytes=self._size if tap is None else 0,
            began=has_begun(None if head is None else head.status, failure, error_came_first=error_came_first),
            is_final=tap is None or tap.is_final,
            generates=self._call.endpoint is not Endpoint.EMBEDDINGS,
            tier="" if tap is None else tap.tier,
            asked_tier=facts.service_tier,
        )
        return reckon(found if tap is None else tap.usage, seen, self._per_event)


_STREAM_HEADERS: FixedHeaders = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
