"""`x-ratelimit-*` on replies, as OpenAI names them: how much of a caller's minute is left, and when it will be whole.

Theory of operation
-------------------
Of several limits the one that will be reached first is told, requests and tokens each for themselves. What is left is
what all processes together have left, as far as this one knows. `reset` is when nothing of the limit would be used, if
nobody asked for more; durations are written as Go does: `120ms`, `1.5s`, `6m0s`.

A reply builds at most four numbers; names and limits are ready bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from proxy.meters.lease import MINUTE_S, Lease

Headers = tuple[tuple[bytes, bytes], ...]
_REQUESTS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def rate_headers(
    requests: Sequence[Lease], tokens: Sequence[Lease], now: float, refused_tokens: int | None = None
) -> Headers:
    """For the requests and the tokens of some scopes. A request of `refused_tokens` is being refused: where that is for
    want of what is told, nothing is left.
    """
    told = _told(_REQUESTS, requests, now, None if refused_tokens is None else 1) if requests else ()
    return told + _told(_TOKENS, tokens, now, refused_tokens) if tokens else told


def _told(names: tuple[bytes, bytes, bytes], leases: Sequence[Lease], now: float, refused: int | None) -> Headers:
    if refused is None:
        lefts = [lease.left(now) for lease in leases]
    else:
        lefts = [lease.left(now) if lease.takes(refused, now) else 0 for lease in leases]
    left = lefts[0] if len(lefts) == 1 else min(lefts)
    lease = leases[lefts.index(left)]
    limit = lease.limit
    reset_ms = int((limit - left) * MINUTE_S * 1000.0 / limit)
    return ((names[0], _number(limit)), (names[1], b"%d" % left), (names[2], go_duration(reset_ms)))


@lru_cache(4096)
def _number(value: int) -> bytes:
    return b"%d" % value


def go_duration(ms: int) -> bytes:
    """Milliseconds as Go writes a `time.Duration`."""
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    seconds, rest = divmod(ms, 1000)
    fraction = (b".%03d" % rest).rstrip(b"0") if rest else b""
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return b"%d%ss" % (seconds, fraction)
    hours, minutes = divmod(minutes, 60)
    return b"%s%dm%d%ss" % (b"%dh" % hours if hours else b"", minutes, seconds, fraction)
