"""An explanation as plain values: what `explain` found, ready to be printed or sent as JSON.

Theory of operation
-------------------
Only words, numbers and names are here: no target, no policy, and so nothing that could give away a credential or the
content of a request. The same values come back from another proxy's JSON as from this process. Durations are seconds,
money is integer nano-USD, None is unknown.
"""

from __future__ import annotations

import msgspec

from proxy.policy.model import Endpoint, Enforce, Lane, Modality, Prefer, Traffic
from proxy.routing.plan import Cause, Exclusion
from proxy.routing.readings import Breaker, Quantiles


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The request, as far as a policy looks at it. Token counts are estimates; `at_s` is Unix time."""

    model: str
    tenant: str
    key: str
    tags: tuple[str, ...]
    endpoint: Endpoint
    traffic: Traffic
    stream: bool
    modalities: tuple[Modality, ...]
    tools: bool
    input_tokens: int
    max_output_tokens: int | None
    lane: Lane | None
    target: str | None
    at_s: float
    priority: str = "normal"


class PassedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A route before the one that applies, and the first condition of its `match` that does not hold."""

    route: str
    needs: str
    has: str


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a route in words: `require.region` `eu-*`. `shadow` rules are evaluated and not applied."""

    rule: str
    limit: str
    shadow: bool = False


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The route that applies. `match` is empty when it takes whatever comes."""

    name: str
    match: tuple[str, ...]
    rules: tuple[Stated, ...]
    prefer: Prefer
    lane_override: bool
    target_override: bool
    max_failovers: int


class Uptime(msgspec.Struct, frozen=True, kw_only=True):
    """Composite uptime of some targets, `known` of which have been measured; see `uptime.composite`."""

    share: float
    known: int
    targets: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the request would cost in token dollars: None is unknown, and 0 for GPUs, which are paid by the hour.

    `price_source` says where the price comes from. `gpus` are those of all replicas, and `gpu_nano_usd_per_hour` what
    they cost in an hour, used or idle; None where that is not stated.
    """

    nano_usd: int | None
    price_source: str
    gpus: str | None = None
    gpu_nano_usd_per_hour: int | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One place in the plan, counted from 0; `model` is the name that the upstream knows."""

    ordinal: int
    replica: int
    model: str
    cause: Cause
    reason: str


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider last said of its own limit: `remaining` of `limit` requests or tokens, until it is reset."""

    unit: str
    limit: int
    remaining: int
    resets_in_s: float


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one dedicated replica has before it, and what it is predicted to make of the request, in seconds.

    The predictions have its factors in them; `hit_tokens` of the prompt are taken to be in its cache. See `Load`.
    """

    waiting: int
    queued_tokens: int
    decoding: int
    context_tokens: int
    ttft_factor: float
    itl_factor: float
    samples: int
    ttft_s: float
    itl_s: float
    hit_tokens: int


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one replica. `seen` is False for one that nobody has observed: it counts as idle and healthy.

    Times count from the decision, and None says that there is nothing to wait for. `work` is None where it is not
    known.
    """

    replica: int
    seen: bool
    in_flight: int
    max_in_flight: int | None
    breaker: Breaker
    probe_in_s: float | None
    full_for_s: float | None
    paced_for_s: float | None
    latency: Quantiles
    uptime: float | None
    failures: int
    quota: Allowance | None
    work: Work | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one target of the model fares: it has a place in the plan, or is left out for `out`.

    Both are empty when the request is refused before any target is looked at. `others` are further requirements that
    it does not meet, and would have to before it could serve; `wants` are the wishes that it misses, and `despite` is
    what else speaks against it where it has a place all the same: it would be late, or others pay more for its time.
    """

    target: str
    lane: Lane
    region: str
    places: tuple[Place, ...]
    out: Exclusion | None
    others: tuple[Exclusion, ...]
    wants: tuple[Exclusion, ...]
    despite: tuple[Exclusion, ...] = ()
    observed: tuple[Observed, ...]
    cost: Cost

    @property
    def planned(self) -> bool:
        """Whether it may be tried."""
        return bool(self.places)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """One rate that the request is held against: `rule` is `tenant.rpm`, say, and `mode` what becomes of excess."""

    scope: str
    rule: str
    used: int
    allowed: int
    mode: str
    over: bool


class Purse(msgspec.Struct, frozen=True, kw_only=True):
    """One budget that the request falls under, all its `limits`, and those of the model's `targets` that it pays for.

    `free_nano_usd`, `spent_nano_usd` and `resets_in_s` are of its tightest window, whose limit is `limit`; None where
    nothing is known of it, and so everything taken to be there. `known` is False while the store cannot be asked for
    more. `over` says that it has too little for this request, and `then` what becomes of the request in that case.
    """

    budget: str
    enforce: Enforce
    lane: Lane
    limits: tuple[str, ...]
    targets: tuple[str, ...]
    known: bool
    free_nano_usd: int | None
    spent_nano_usd: int | None
    limit: str | None
    resets_in_s: float | None
    over: bool
    then: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the client would get instead of an answer."""

    status: int
    code: str
    type: str
    message: str
    rule: str
    retry_after_s: float | None
    retryable: bool | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one request goes where it goes, or nowhere.

    `route` is None when none applies. `targets` has each target of the model once, those of the plan first and in its
    order. `relaxed` says that the first of them misses a wish of the route. `shadow` is what rules in shadow mode would
    have changed. `budgets` are those that it falls under, and `served_as` is the model that a spent one has had put in
    the place of the one asked for. Costs are estimated with `output_tokens`, which are `output_assumed` where the
    request sets no limit. `summary` is the answer in a sentence.
    """

    policy: str
    request: Asked
    refusal: Told | None
    passed_over: tuple[PassedOver, ...]
    route: Applied | None
    targets: tuple[Standing, ...]
    relaxed: bool
    shadow: tuple[Exclusion, ...]
    rates: tuple[Scope, ...]
    budgets: tuple[Purse, ...]
    served_as: str | None
    uptime: Uptime | None
    output_tokens: int
    output_assumed: bool
    summary: str

    @property
    def first(self) -> Standing | None:
        """The target that is tried first."""
        return self.targets[0] if self.targets and self.targets[0].planned else None
