"""The shape of a policy file: what may stand where.

Theory of operation
-------------------
These shapes check structure and single values; whether the pieces fit together is `compile`'s business. Every leaf is
read by a function of `units`, `words`, `urls` or `credentials`. The `*_LATER` tables name keys that the design has and
this release does not enforce: a rule that is accepted and not enforced is a lie, so they are refused.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy import units, words
from proxy.policy.credentials import api_key, key_digest
from proxy.policy.model import Endpoint, Engine, Lane, Prefer, Secret, Traffic
from proxy.policy.problem import Mistake
from proxy.policy.shape import key, listed, one, shaped
from proxy.policy.urls import base_url
from proxy.policy.variables import shown

_MODE = {"mode": "remove it; every rule is enforced"}
TARGET_LATER = _MODE | {
    "limits": "remove it; a provider's 429 already spills or fails over",
    "dns": "list the replicas with `urls: [...]`",
    "kubernetes": "list the replicas with `urls: [...]`, or give the Service's `url`",
}
TENANT_LATER = _MODE | {
    "rpm": "remove it; limit requests in front of the proxy meanwhile",
    "tpm": "remove it; limit tokens in front of the proxy meanwhile",
    "priority": "remove it; all tenants are served alike",
}
REQUIRE_LATER = _MODE | {
    "max_usd_per_request": "remove it; the gates are region, retention, lane and tags",
    "uptime": "put it under `want`",
    "ttft_p99": "put it under `want`",
    "itl_p99": "put it under `want`",
    "usd_per_mtok": "put it under `want`",
}
WANT_LATER = _MODE | {"tags": "put it under `require`", "max_usd_per_request": "use `usd_per_mtok`"}
ROUTE_LATER = _MODE | {"deadline": "remove it; offline requests are answered at once, like the others"}

_NAMES = listed(one(words.name), or_one=True)
_TAGS = listed(one(words.name), or_one=True, may_be_empty=True)
_REGION_GLOBS = listed(one(words.region_glob), or_one=True)
_RETENTION_LIMITS = listed(one(words.retention_limit), or_one=True)
_ENDPOINTS = listed(one(words.one_of(Endpoint)), or_one=True)
_OTHER_ENGINE = "`openai` stands for any other OpenAI-compatible server"
_LANE = one(words.one_of(Lane))
_SECONDS = one(units.duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusSpec:
    """The GPUs behind one replica; `usd_per_hour` is for one GPU."""

    type: str = key(one(words.name), hint="write `type: H100`")
    count: int = key(one(units.count), hint="write `count: 1`")
    usd_per_hour: int = key(one(units.nano_usd), hint="write `usd_per_hour: 2.99`, the price of one GPU for one hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSpec:
    """Nano-USD per million tokens, written in dollars."""

    input: int = key(one(units.nano_usd), hint="write `input: 0.88`, in $ per million tokens")
    output: int = key(one(units.nano_usd), hint="write `output: 0.88`, in $ per million tokens")
    cached_input: int | None = key(one(units.nano_usd), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsSpec:
    """Deadlines of one attempt at a target, in seconds."""

    connect: float | None = key(_SECONDS, default=None)
    first_token: float | None = key(_SECONDS, default=None)
    idle: float | None = key(_SECONDS, default=None)
    total: float | None = key(_SECONDS, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One deployment, or one provider's model."""

    lane: Lane = key(
        _LANE, hint="write `lane: dedicated` for your own GPUs, `lane: shared` for an api paid by the token"
    )
    model: str = key(one(words.text), hint="write `model:` and the name that the upstream knows it by")
    engine: Engine | None = key(one(words.one_of(Engine, _OTHER_ENGINE)), default=None)
    provider: str | None = key(one(words.text), default=None)
    url: str | None = key(one(base_url), default=None)
    urls: tuple[str, ...] | None = key(listed(one(base_url)), default=None)
    api_key: Secret | None = key(one(api_key), default=None)
    endpoints: tuple[Endpoint, ...] | None = key(_ENDPOINTS, default=None)
    region: str = key(one(words.region), default="unknown")
    retention: str = key(one(words.retention), default="unknown")
    gpus: GpusSpec | None = key(shaped(GpusSpec), default=None)
    price: PriceSpec | None = key(shaped(PriceSpec), default=None)
    max_in_flight: int | None = key(one(units.count), default=None)
    tags: tuple[str, ...] = key(_TAGS, default=())
    timeouts: TimeoutsSpec = key(shaped(TimeoutsSpec), default=TimeoutsSpec())


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSpec:
    """A target under a public model name, perhaps by another name there (a LoRA adapter)."""

    target: str = key(one(words.name), hint="write `{target: name, model: name}`")
    model: str | None = key(one(words.text), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSpec:
    """Whose keys these are, and what they may ask for. `keys` are digests, in hex."""

    keys: tuple[str, ...] = key(
        listed(one(key_digest), or_one=True),
        hint='write `keys: [sha256:...]` with what `printf %s "$KEY" | sha256sum` prints',
    )
    tags: tuple[str, ...] = key(_TAGS, default=())
    models: tuple[str, ...] | None = key(_NAMES, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSpec:
    """Which requests a route takes; every given key must fit."""

    model: tuple[str, ...] | None = key(_NAMES, default=None)
    models: tuple[str, ...] | None = key(_NAMES, default=None)
    endpoint: tuple[Endpoint, ...] | None = key(_ENDPOINTS, default=None)
    tenant: tuple[str, ...] | None = key(_NAMES, default=None)
    tags: tuple[str, ...] = key(_NAMES, default=())
    traffic: Traffic | None = key(one(words.one_of(Traffic)), default=None)
    stream: bool | None = key(one(words.flag), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireSpec:
    """Gates."""

    region: tuple[str, ...] = key(_REGION_GLOBS, default=())
    retention: tuple[str, ...] = key(_RETENTION_LIMITS, default=())
    lane: Lane | None = key(_LANE, default=None)
    tags: tuple[str, ...] = key(_NAMES, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class WantSpec:
    """Preferences."""

    region: tuple[str, ...] = key(_REGION_GLOBS, default=())
    retention: tuple[str, ...] = key(_RETENTION_LIMITS, default=())
    lane: Lane | None = key(_LANE, default=None)
    ttft_p99: float | None = key(_SECONDS, default=None)
    itl_p99: float | None = key(_SECONDS, default=None)
    uptime: float | None = key(one(units.share), default=None)
    usd_per_mtok: int | None = key(one(units.nano_usd), default=None)


def _failovers(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 5:
        raise Mistake(f"expected a whole number from 0 to 5, got {shown(value)}", "write `max_failovers: 1`")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A named first-match rule."""

    name: str = key(one(words.name), hint="write `name:`; it appears in headers, logs and metrics")
    match: MatchSpec = key(shaped(MatchSpec), default=MatchSpec())
    require: RequireSpec = key(shaped(RequireSpec, later=REQUIRE_LATER), default=RequireSpec())
    want: WantSpec = key(shaped(WantSpec, later=WANT_LATER), default=WantSpec())
    prefer: Prefer = key(one(words.one_of(Prefer)), default=Prefer.COST)
    lane_override: bool = key(one(words.flag), default=True)
    max_failovers: int = key(one(_failovers), default=1)
