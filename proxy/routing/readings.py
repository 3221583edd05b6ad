"""Frozen observations of the targets, each with the time it was taken.

Theory of operation
-------------------
`signals/` owns the moving state; what `decide()` sees of it is a tuple of these values, one per replica. Unknown is
None and stays None: a rule states in its docstring what it answers when a reading is missing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from proxy.policy.model import Budget, Per


class Breaker(StrEnum):
    """Closed serves, open does not, half-open lets one probe through (DESIGN words: open means *not serving*)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Quantiles(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Recent quantiles in seconds, each None below a minimum sample: first token, gap between tokens, whole reply."""

    ttft_p50_s: float | None = None
    ttft_p90_s: float | None = None
    ttft_p95_s: float | None = None
    ttft_p99_s: float | None = None
    itl_p50_s: float | None = None
    itl_p90_s: float | None = None
    itl_p95_s: float | None = None
    itl_p99_s: float | None = None
    e2e_p50_s: float | None = None
    e2e_p90_s: float | None = None
    e2e_p95_s: float | None = None
    e2e_p99_s: float | None = None


UNMEASURED = Quantiles()


class Quota(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a provider last said of its own limit: `remaining` of `limit` requests or tokens until `reset_at`."""

    unit: str
    limit: int
    remaining: int
    reset_at: float


class Load(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The work that one replica has before it, of all proxies together, as far as their streams tell.

    `waiting` requests wait for their first token, with `queued_tokens` of prompt that no cache holds; `decoding`
    streams have had theirs, over `context_tokens`; `prefill_tokens_per_s` of prompt were read lately. `ttft_factor` and
    `itl_factor` are the 90th percentile of what was observed against what the profile predicts, learned from
    `samples`; `step_factor` is that of full steps alone. `overdue` is how many times its predicted wait the longest
    waiting request has waited. `begun_at` is when the last request was sent. `warmth` grows to 1 while a replica that
    has just appeared warms up.
    """

    waiting: int = 0
    queued_tokens: int = 0
    decoding: int = 0
    context_tokens: int = 0
    prefill_tokens_per_s: float = 0.0
    ttft_factor: float = 1.0
    itl_factor: float = 1.0
    step_factor: float = 1.0
    samples: int = 0
    overdue: float = 0.0
    begun_at: float = 0.0
    warmth: float = 1.0


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One replica of one target, `as_of` seconds on the monotonic clock.

    `in_flight` counts this process's requests plus what the other workers last reported. `full_until` is the time up to
    which the engine's own 429/503/529, given at `full_at`, is believed. `open_until` is when an open breaker will let a
    probe through. `paced_until` is when the provider's quota has room for the next request; `quota` is the tightest
    one it has told. `uptime` is the share of successes over a window, None below a minimum sample, and `failures` how
    many there were in it. `load` is its work, None where that is nobody's concern: of shared targets.
    """

    target: str
    replica: int
    as_of: float
    in_flight: int = 0
    breaker: Breaker = Breaker.CLOSED
    open_until: float = 0.0
    full_until: float = 0.0
    full_at: float = 0.0
    latency: Quantiles = UNMEASURED
    uptime: float | None = None
    failures: int = 0
    paced_until: float = 0.0
    quota: Quota | None = None
    load: Load | None = None


Readings = Mapping[str, tuple[Reading, ...]]
"""By target name, one reading per replica in the order of `Target.urls`."""


class Outlook(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is expected of one request: how long its answer gets, by its app's latest, and how many tokens of its prompt
    each replica still has in its cache (by target, in the order of the replicas; absent is none).

    `bid_nano_usd_per_s` is the least that a request has to save to be worth its engine time; 0 takes all.
    """

    output_tokens: float | None = None
    hits: Mapping[str, tuple[int, ...]] = {}
    bid_nano_usd_per_s: float = 0.0


NO_OUTLOOK = Outlook()


class Rate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one scope has used of its minute, over all workers, and has in flight.

    What this worker may not use counts as used; so much of that is in truth left, and held `elsewhere`. There is room
    for another request in `frees_in_s`; `tokens_per_s` come back each second, 0 where that is not known.
    """

    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    frees_in_s: float = 0.0
    tokens_per_s: float = 0.0
    requests_elsewhere: int = 0
    tokens_elsewhere: int = 0
    in_flight_elsewhere: int = 0


Rates = Mapping[str, Rate]
"""By bucket (`limits.Held.bucket`) or, for all buckets of a scope, by scope: `tenant:name`, `key:tenant/name`,
`route:name`, `target:name`. One that is not there is unused.
"""

NO_RATES: Rates = {}


class LeasedRates(Mapping[str, Rate]):
    """Rates that know of many buckets at once, and without saying how much is used of each, that a request fits."""

    __slots__ = ()

    @abstractmethod
    def fit(self, buckets: tuple[str, ...], tokens: int) -> bool:
        """Whether there is room for one more request of so many tokens in each; if not, each has to be looked at."""


class Fund(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one budget has left, in its tightest window, as this process sees it. Money is nano-USD.

    `free` may be spent, or set aside, by the next request here and now; it is negative where more was used than was
    set aside. `spent` is what all processes have used, `held` what is held for other requests or leased elsewhere, and
    `unlent` what the store may still lend. `limit` is the cap that is the tightest, `per` its window, which ends in
    `resets_in_s` (None: never). `known` is False while the store cannot be asked for more: `free` is then all.
    """

    free_nano_usd: int
    spent_nano_usd: int = 0
    limit_nano_usd: int = 0
    per: Per = Per.TOTAL
    resets_in_s: float | None = None
    known: bool = True
    held_nano_usd: int = 0
    unlent_nano_usd: int = 0


Funds = Mapping[str, Fund]
"""By budget name; a budget that is not there has all its money."""

NO_FUNDS: Funds = {}


class LeasedFunds(Mapping[str, Fund]):
    """Funds that tell what a budget has free without all that there is to say of it."""

    __slots__ = ()

    @abstractmethod
    def free_nano_usd(self, budget: str) -> int:
        """As `Fund.free_nano_usd`, also of a budget that is not there."""

    @abstractmethod
    def is_ample(self, budgets: tuple[Budget, ...]) -> bool:
        """Whether each has so much that no request of the usual size need be asked about."""
