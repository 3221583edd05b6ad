"""What dead processes left in their journals, taken over by this one.

Theory of operation
-------------------
A journal holds what its process had counted and leased, and which attempts it was in the midst of. Counts go to the
dead process's own slot, leases are closed, and the attempts are charged by estimate: nobody knows more of them than
that they had begun, what their input was, and how many events had passed when somebody last looked. So a killed proxy
loses no request: one that had ended is exact, one that had not is marked as estimated.

All of it is what that process would have told the store itself, so it does no harm to tell it twice. The file goes when
the store has everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from proxy.meters.begun import Begun
from proxy.meters.counters import Counters
from proxy.meters.escrow import ESCROW, Escrow
from proxy.meters.fields import COUNTERS, SERIES
from proxy.meters.journal_format import Open
from proxy.meters.left_behind import Left
from proxy.meters.vectors import Vector
from proxy.routing.outcome import Usage
from proxy.routing.work import work_us

Cells = Mapping[tuple[str, str], Vector]


class Adopted(NamedTuple):
    """A dead process's counts as they are to be stored; for `Counters.adopt`."""

    slot: str
    cells: Cells
    acknowledged: Cells


def take_over(lefts: Iterable[Left], counters: Counters, escrow: Escrow) -> None:
    """Have everything stored that dead processes left, and their files removed then."""
    for left in lefts:
        known = {**left.acknowledged, **left.cells}
        terms = {name: values for (kind, name), values in known.items() if kind == ESCROW}
        done = _after(1 + len(terms), left.forget)
        counters.adopt(Adopted(left.slot, with_unfinished(left.cells, known, left.open), left.acknowledged), done)
        for key, values in terms.items():
            escrow.adopt_left(left.slot, key, values, done)


def with_unfinished(cells: Cells, known: Cells, unfinished: Iterable[Open]) -> Cells:
    """`cells`, with the attempts that were in flight charged by estimate on top of what is `known` of their series."""
    charged = dict(cells)
    for attempt in unfinished:
        if attempt.kind == SERIES:
            key = attempt.kind, attempt.name
            before = charged.get(key) or known.get(key) or (0,) * len(COUNTERS)
            charged[key] = tuple(map(sum, zip(before, _estimate(attempt), strict=True)))
    return charged


def _estimate(attempt: Open) -> Vector:
    noted = Begun(*attempt.values)
    usage = Usage(input_tokens=noted.input_tokens, output_tokens=attempt.progress, estimated=True)
    nano_usd = -(-(noted.input_tokens * noted.input_price + attempt.progress * noted.output_price) // 1_000_000)
    counts = {
        "requests": noted.request,
        "attempts": 1,
        "failures": 1,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated_tokens": usage.input_tokens + usage.output_tokens,
        "estimated_attempts": 1,
        "nano_usd": nano_usd,
        "estimated_nano_usd": nano_usd,
        "work_us": work_us(usage, noted.profile) if noted.dedicated else 0,
    }
    return tuple([counts.get(name, 0) for name in COUNTERS])


def _after(times: int, then: Callable[[], object]) -> Callable[[], None]:
    """A callback that calls `then` when it has been called so many times."""
    left = times

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            then()

    return done
