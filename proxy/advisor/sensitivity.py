"""What the advice hangs on: the same sum at other prices, speeds and volumes, and where it turns over.

Theory of operation
-------------------
The k-th replica pays while u_k >= rho*, and rho* is inverse to the shared price and proportional to that of the GPU. So
for both, the price at which the best k turns over is known at once: k stops paying when the shared price falls by the
factor rho* / u_k, and k + 1 begins to when it rises by rho* / u_(k+1). The volume and the engine's speed move u_k
itself; there the turning point is found by bisection, for the best k moves one way only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from proxy.advisor.breakeven import SECONDS_AN_HOUR, Offer
from proxy.advisor.demand import Demand
from proxy.advisor.sizing import Sizing, size
from proxy.policy.engine_profile import EngineProfile

_LEAST, _MOST = 1 / 64, 64.0
"""How far the turning points are looked for."""
_STEPS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the sizes are worked out from; everything else follows."""

    demand: Demand
    offer: Offer
    usd_per_work_s: float
    most: int
    least: int = 0

    def size(self, *, price: float = 1.0, gpu: float = 1.0, speed: float = 1.0, volume: float = 1.0) -> Sizing:
        """The answer when the shared price, the GPU's, the engine's speed and the volume are so many times theirs.

        v is dollars for work as *this* engine does it; a faster one does more of the same in a second.
        """
        offer = replace(
            self.offer, usd_per_hour=self.offer.usd_per_hour * gpu, profile=faster(self.offer.profile, speed)
        )
        demand = self.demand if volume == 1.0 else self.demand.grown(volume)
        return size(demand, offer, self.usd_per_work_s * price * speed, most=self.most, least=self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One "what if": `quantity` is another by `change`. `saving` is the share of the bill that `replicas` would save in
    it, `best` the number that would save most, and `best_saving` how much that is.
    """

    quantity: str
    change: str
    base_usd_per_hour: float
    usd_per_hour: float
    replicas: int
    saving: float
    best: int
    best_saving: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """The factor at which the best number of replicas turns from what it is into `into`; None where it never does."""

    what: str
    factor: float | None
    into: int


def faster(profile: EngineProfile, speed: float) -> EngineProfile:
    """An engine that does the same work in 1 / `speed` of the time; what a step takes by itself stays."""
    if speed == 1.0:
        return profile
    return replace(
        profile,
        sequence_s=profile.sequence_s / speed,
        context_token_s=profile.context_token_s / speed,
        prefill_token_s=profile.prefill_token_s / speed,
        attention_s=profile.attention_s / speed,
    )


def case(quantity: str, change: str, sizing: Sizing, replicas: int) -> Case:
    """What `replicas` come to in another world."""
    bills = sizing.usd_per_hour
    base = float(bills[sizing.least])
    return Case(
        quantity=quantity,
        change=change,
        base_usd_per_hour=base,
        usd_per_hour=float(bills[replicas]),
        replicas=replicas,
        saving=_share(base - float(bills[replicas]), base),
        best=sizing.best,
        best_saving=_share(base - float(bills[sizing.best]), base),
    )


def usual_cases(question: Question, replicas: int) -> tuple[Case, ...]:
    """Prices 30 and 50 % away, and an engine or a GPU's price 30 % off."""
    worlds = (
        ("shared price", "price", (0.5, 0.7, 1.3, 1.5)),
        ("GPU price", "gpu", (0.7, 1.3)),
        ("engine speed", "speed", (0.7, 1.3)),
        ("demand", "volume", (0.7, 1.3)),
    )
    return tuple(
        case(quantity, f"{factor - 1:+.0%}", question.size(**{name: factor}), replicas)
        for quantity, name, factors in worlds
        for factor in factors
    )


def flips(question: Question, best: int) -> tuple[Flip, ...]:
    """The nearest point on either side of each quantity at which another number of replicas becomes the best one."""
    sizing = question.size()
    worth = SECONDS_AN_HOUR * question.usd_per_work_s * question.offer.capacity
    need = question.offer.usd_per_hour / worth if worth > 0 else inf
    use = sizing.use
    found = []
    if best > question.least:
        into, used = best - 1, float(use[best - 1])
        found += [
            Flip(what="shared price", factor=_ratio(need, used), into=into),
            Flip(what="GPU price", factor=_ratio(used, need), into=into),
            Flip(what="demand", factor=_turn(lambda f: question.size(volume=f).best < best, _LEAST), into=into),
            Flip(what="engine speed", factor=_turn(lambda f: question.size(speed=f).best < best, _LEAST), into=into),
        ]
    if best < question.most:
        into, used = best + 1, float(use[best])
        found += [
            Flip(what="shared price", factor=_ratio(need, used), into=into),
            Flip(what="GPU price", factor=_ratio(used, need), into=into),
            Flip(what="demand", factor=_turn(lambda f: question.size(volume=f).best > best, _MOST), into=into),
        ]
        if best == question.least:
            speed = _turn(lambda f: question.size(speed=f).best > best, _MOST)
            found.append(Flip(what="engine speed", factor=speed, into=into))
    return tuple(found)


def _turn(turned: Callable[[float], bool], far: float) -> float | None:
    """The factor between 1 and `far` at which `turned` begins to hold; None where it does not even at `far`."""
    if not turned(far):
        return None
    near = 1.0
    for _ in range(_STEPS):
        middle = (near * far) ** 0.5
        near, far = (near, middle) if turned(middle) else (middle, far)
        if max(near / far, far / near) < 1.002:
            break
    return far


def _ratio(one: float, other: float) -> float | None:
    """None where one of them is nothing, or never enough: then no factor turns anything."""
    return float(one / other) if 0 < one < inf and 0 < other < inf else None


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
