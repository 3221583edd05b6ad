"""The three reasons to have GPUs of one's own, and whether each of them holds here.

Theory of operation
-------------------
*Scale*: the demand keeps a replica busier than it has to be. *Specialization*: what shared targets offer is not what is
needed, because none of them has the model or may have the prompts, or because they demonstrably miss the objective or
the uptime that was promised. *Orchestration*: a task takes many calls, one after the other, so that the way to a
provider and back adds up to a time that a user feels. A reason holds when figures say so. Where nobody has measured, it
is unknown, and never taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from proxy.advisor.breakeven import BreakEven

ENOUGH_ATTEMPTS = 1000
FELT_S = 1.0
"""Network time in one task from which on a user feels it."""


class Why(StrEnum):
    """Why one has GPUs."""

    SCALE = "scale"
    SPECIALIZATION = "specialization"
    ORCHESTRATION = "orchestration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`holds` None is unknown; `because` is a sentence with the figures."""

    why: Why
    holds: bool | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a shared target was seen to do: its attempts, those that failed, and its time to the first token, also
    in the mean of each hour in which it was used.
    """

    target: str
    attempts: int
    failures: int
    ttft_p99_s: float | None = None
    hourly_ttft_s: tuple[float, ...] = ()

    @property
    def uptime(self) -> float:
        """The share of attempts that were answered."""
        return 1 - self.failures / self.attempts if self.attempts else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What users were promised; None is nothing."""

    ttft_s: float | None = None
    uptime: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Tasks of several calls: how many there are in one, and the network's share of each, in seconds."""

    calls: float
    network_s: float


def scale(even: BreakEven, use: float) -> Reason:
    """Whether the first replica is used as much as it must be."""
    if not even.shared_usd_per_mtok:
        return Reason(why=Why.SCALE, holds=False, because="none of it has a price elsewhere that could be saved")
    if not even.ever:
        why = f"a replica that is always full serves a million tokens for ${even.usd_per_mtok:.3f}"
        return Reason(
            why=Why.SCALE, holds=False, because=f"{why}, and they cost ${even.shared_usd_per_mtok:.3f} shared"
        )
    holds = use >= even.utilisation
    told = f"the first replica would be used {use:.0%} of the time, and pays from {even.utilisation:.0%} on"
    return Reason(why=Why.SCALE, holds=holds, because=told)


def specialization(captive: Sequence[str], captive_share: float, seen: Sequence[Seen], promise: Promise) -> Reason:
    """Whether shared targets cannot serve some of the demand, or do not serve it as was promised."""
    if captive:
        names = ", ".join(captive[:3]) + (" and others" if len(captive) > 3 else "")
        told = f"no allowed shared target may serve {names}: {captive_share:.0%} of the work"
        return Reason(why=Why.SPECIALIZATION, holds=True, because=told)
    known = [one for one in seen if one.attempts >= ENOUGH_ATTEMPTS]
    for one in known:
        missed = _missed(one, promise)
        if missed:
            return Reason(why=Why.SPECIALIZATION, holds=True, because=missed)
    if not known:
        told = "nobody has measured what shared targets do here (hint: `--from-meters`, or `--observed`)"
        return Reason(why=Why.SPECIALIZATION, holds=None, because=told)
    told = f"{', '.join(one.target for one in known)} kept what was promised, and can serve all of it"
    return Reason(why=Why.SPECIALIZATION, holds=False, because=told)


def _missed(seen: Seen, promise: Promise) -> str:
    if promise.ttft_s is not None and seen.ttft_p99_s is not None and seen.ttft_p99_s > promise.ttft_s:
        return f"`{seen.target}` has a ttft p99 of {seen.ttft_p99_s:.2f} s, and {promise.ttft_s:g} s are promised"
    late = 0 if promise.ttft_s is None else sum(one > promise.ttft_s for one in seen.hourly_ttft_s)
    if late:
        told = f"the mean ttft of `{seen.target}` was above {promise.ttft_s:g} s"
        return f"{told} in {late} of {len(seen.hourly_ttft_s)} hours"
    if promise.uptime is not None and seen.uptime < promise.uptime:
        failed = f"{seen.failures:,} of {seen.attempts:,} attempts on `{seen.target}` failed"
        return f"{failed}: an uptime of {seen.uptime:.3%}, and {promise.uptime:.3%} is promised"
    return ""


def orchestration(steps: Steps | None) -> Reason:
    """Whether the network's part of a task of many calls is felt."""
    if steps is None:
        told = (
            "nobody has told how many calls a task makes, and how long each is on the network (hint: `--steps 12x80ms`)"
        )
        return Reason(why=Why.ORCHESTRATION, holds=None, because=told)
    whole_s = steps.calls * steps.network_s
    told = f"{steps.calls:g} calls a task spend {whole_s:.2f} s on the network"
    holds = whole_s >= FELT_S
    return Reason(
        why=Why.ORCHESTRATION, holds=holds, because=told + (", which GPUs nearby save" if holds else ": not felt")
    )
