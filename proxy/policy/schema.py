"""The shape of a policy file: what may stand where.

Theory of operation
-------------------
These shapes check structure and single values; whether the pieces fit together is `compile`'s business. Every leaf is
read by a function of `units`, `words`, `urls` or `credentials`.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum

from proxy.policy import caps, hosts, times, units, words
from proxy.policy.credentials import api_key, key_digest
from proxy.policy.discovery import DnsService
from proxy.policy.discovery_terms import ServiceSpec, dns_service
from proxy.policy.engine_profiles import stated_profile
from proxy.policy.model import (
    Cap,
    Capability,
    Endpoint,
    Enforce,
    Engine,
    EngineProfile,
    Exhausted,
    Lane,
    Modality,
    Mode,
    Prefer,
    Secret,
    Traffic,
)
from proxy.policy.patience import HedgeSpec, failovers, wait
from proxy.policy.shape import Ruled, key, listed, one, ruled, shaped
from proxy.policy.urls import base_url
from proxy.policy.wake_terms import WakeSpec

_NAMES = listed(one(words.name), or_one=True)
_TAGS = listed(one(words.name), or_one=True, may_be_empty=True)
_REGION_GLOBS = listed(one(words.region_glob), or_one=True)
_RETENTION_LIMITS = listed(one(words.retention_limit), or_one=True)
_ENDPOINTS = listed(one(words.one_of(Endpoint)), or_one=True)
_OTHER_ENGINE = "`openai` stands for any other OpenAI-compatible server"
_LANE = one(words.one_of(Lane))
_MODE = one(words.one_of(Mode))
_SECONDS = one(units.duration_s)
_STEP_TIME = one(units.step_time_s)
_OBJECTIVE = ruled(_SECONDS)
_SPEED = ruled(one(units.tokens_per_s))
_COUNT = one(units.count)
_PER_GPU_HOUR = one(units.nano_usd)
_PER_MTOK = one(units.nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrancheSpec:
    """Some replicas at a price of their own."""

    replicas: int = key(_COUNT, hint="write `replicas: 2`, how many are had at this price")
    usd_per_hour: int = key(_PER_GPU_HOUR, hint="write `usd_per_hour: 1.80`, the price of one GPU for one hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPriceSpec:
    """What a GPU costs for an hour at certain times."""

    usd_per_hour: int = key(_PER_GPU_HOUR, hint="write `usd_per_hour: 1.50`, the price of one GPU for one hour")
    days: tuple[tuple[int, ...], ...] = key(listed(one(times.days), or_one=True), default=())
    hours: tuple[int, int] = key(one(times.hours), default=(0, 24 * 60))
    zone: tzinfo = key(one(times.zone), default=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSpec:
    """A Service, whose endpoints are counted."""

    service: str = key(one(hosts.kubernetes_name), hint="write `service:` and the name of the Service")
    namespace: str = key(one(hosts.kubernetes_name), hint="write `namespace:` and the namespace that it is in")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasSpec:
    """How many replicas there are, or who knows."""

    count: int | None = key(_COUNT, default=None)
    dns: str | None = key(one(hosts.dns_name), default=None)
    kubernetes: KubernetesSpec | None = key(shaped(KubernetesSpec), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusSpec:
    """The GPUs behind one replica, and what one GPU costs for an hour."""

    type: str = key(one(words.name), hint="write `type: H100`")
    count: int = key(_COUNT, hint="write `count: 1`")
    usd_per_hour: int = key(_PER_GPU_HOUR, hint="write `usd_per_hour: 2.99`, the price of one GPU for one hour")
    reserved: TrancheSpec | None = key(shaped(TrancheSpec), default=None)
    spot: TrancheSpec | None = key(shaped(TrancheSpec), default=None)
    schedule: tuple[TimedPriceSpec, ...] | None = key(listed(shaped(TimedPriceSpec), or_one=True), default=None)
    replicas: ReplicasSpec | None = key(shaped(ReplicasSpec, shorthand="count"), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfileSpec:
    """What an engine's step takes, in seconds: a known profile, figures of one's own, or the one with some of these."""

    name: EngineProfile | None = key(one(stated_profile), default=None)
    step: float | None = key(_STEP_TIME, default=None)
    sequence: float | None = key(_STEP_TIME, default=None)
    context_token: float | None = key(_STEP_TIME, default=None)
    prefill_token: float | None = key(_STEP_TIME, default=None)
    attention: float | None = key(_STEP_TIME, default=None)
    kv_tokens: int | None = key(_COUNT, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatesSpec:
    """Nano-USD per million tokens of each kind, written in dollars."""

    input: int = key(_PER_MTOK, hint="write `input: 0.88`, in $ per million tokens")
    output: int = key(_PER_MTOK, hint="write `output: 0.88`, in $ per million tokens")
    cached_input: int | None = key(_PER_MTOK, default=None)
    cache_write: int | None = key(_PER_MTOK, default=None)
    cache_write_1h: int | None = key(_PER_MTOK, default=None)
    audio_input: int | None = key(_PER_MTOK, default=None)
    audio_output: int | None = key(_PER_MTOK, default=None)
    reasoning: int | None = key(_PER_MTOK, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRatesSpec(RatesSpec):
    """The rates of requests with a longer input."""

    tokens: int = key(_COUNT, hint="write `tokens: 200k`, the length of input above which these prices hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffSpec(RatesSpec):
    """The rates of a service tier."""

    above: tuple[LongRatesSpec, ...] = key(listed(shaped(LongRatesSpec), or_one=True), default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSpec(TariffSpec):
    """The rates of the standard tier, and of the others."""

    batch: TariffSpec | None = key(shaped(TariffSpec), default=None)
    flex: TariffSpec | None = key(shaped(TariffSpec), default=None)
    priority: TariffSpec | None = key(shaped(TariffSpec), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsSpec:
    """Deadlines of one attempt at a target, in seconds."""

    connect: float | None = key(_SECONDS, default=None)
    first_token: float | None = key(_SECONDS, default=None)
    idle: float | None = key(_SECONDS, default=None)
    total: float | None = key(_SECONDS, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSpec:
    """A provider's own limits, over all proxies together."""

    rpm: int | None = key(_COUNT, default=None)
    tpm: int | None = key(_COUNT, default=None)
    concurrency: int | None = key(_COUNT, default=None)


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
    dns: DnsService | None = key(one(dns_service), default=None)
    kubernetes: ServiceSpec | None = key(shaped(ServiceSpec), default=None)
    api_key: Secret | None = key(one(api_key), default=None)
    endpoints: tuple[Endpoint, ...] | None = key(_ENDPOINTS, default=None)
    region: str = key(one(words.region), default="unknown")
    retention: str = key(one(words.retention), default="unknown")
    gpus: GpusSpec | None = key(shaped(GpusSpec), default=None)
    price: PriceSpec | None = key(shaped(PriceSpec), default=None)
    max_in_flight: int | None = key(_COUNT, default=None)
    max_batched_tokens: int | None = key(_COUNT, default=None)
    engine_profile: EngineProfileSpec | None = key(shaped(EngineProfileSpec, shorthand="name"), default=None)
    wake: WakeSpec | None = key(shaped(WakeSpec), default=None)
    limits: LimitsSpec | None = key(shaped(LimitsSpec), default=None)
    training: bool | None = key(one(words.flag), default=None)
    quantization: str = key(one(words.precision), default="unknown")
    context_window: int | None = key(_COUNT, default=None)
    supports: tuple[Capability, ...] | None = key(
        listed(one(words.one_of(Capability)), or_one=True, may_be_empty=True), default=None
    )
    parameters: dict[str, str | int | float | bool] | None = key(one(words.parameters), default=None)
    tags: tuple[str, ...] = key(_TAGS, default=())
    timeouts: TimeoutsSpec = key(shaped(TimeoutsSpec), default=TimeoutsSpec())


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSpec:
    """A target under a public model name, perhaps by another name there (a LoRA adapter)."""

    target: str = key(one(words.name), hint="write `{target: name, model: name}`")
    model: str | None = key(one(words.text), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """One key of a tenant, by its digest in hex. Its tags add to the tenant's, its limits hold beside the tenant's."""

    digest: str = key(one(key_digest), hint="write `digest: sha256:...`")
    name: str = key(one(words.name), default="")
    tags: tuple[str, ...] = key(_TAGS, default=())
    rpm: int | None = key(_COUNT, default=None)
    tpm: int | None = key(_COUNT, default=None)
    concurrency: int | None = key(_COUNT, default=None)
    mode: Mode = key(_MODE, default=Mode.ENFORCE)


class Level(StrEnum):
    """How high a priority is, in a word."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSpec:
    """Whose keys these are, and what they may ask for."""

    keys: tuple[KeySpec, ...] = key(
        listed(shaped(KeySpec, shorthand="digest"), or_one=True, may_be_empty=True),
        hint='write `keys: [sha256:...]` with what `printf %s "$KEY" | sha256sum` prints',
    )
    tags: tuple[str, ...] = key(_TAGS, default=())
    request_tags: tuple[str, ...] = key(_TAGS, default=())
    models: tuple[str, ...] | None = key(_NAMES, default=None)
    priority: Level = key(one(words.one_of(Level)), default=Level.NORMAL)
    rpm: int | None = key(_COUNT, default=None)
    tpm: int | None = key(_COUNT, default=None)
    concurrency: int | None = key(_COUNT, default=None)
    mode: Mode = key(_MODE, default=Mode.ENFORCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensSpec:
    """A span of token counts, both ends included."""

    min: int | None = key(_COUNT, default=None)
    max: int | None = key(_COUNT, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpec:
    """A recurring span of local time."""

    days: tuple[tuple[int, ...], ...] = key(listed(one(times.days), or_one=True), default=())
    hours: tuple[int, int] = key(one(times.hours), default=(0, 24 * 60))
    zone: tzinfo = key(one(times.zone), default=UTC)


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
    modality: tuple[Modality, ...] | None = key(listed(one(words.one_of(Modality)), or_one=True), default=None)
    tools: bool | None = key(one(words.flag), default=None)
    input_tokens: TokensSpec | None = key(shaped(TokensSpec), default=None)
    time: TimeSpec | None = key(shaped(TimeSpec), default=None)
    key: tuple[str, ...] | None = key(_NAMES, default=None)  # last: the name is the reader's until here


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSpec:
    """What a route requires, or wants, of a target; with `mode: shadow` all of it is only recorded."""

    mode: Mode | None = key(_MODE, default=None)
    region: Ruled | None = key(ruled(_REGION_GLOBS), default=None)
    retention: Ruled | None = key(ruled(_RETENTION_LIMITS), default=None)
    training: Ruled | None = key(ruled(one(words.refusal_of_training)), default=None)
    lane: Ruled | None = key(ruled(_LANE), default=None)
    tags: Ruled | None = key(ruled(_NAMES), default=None)
    quantization: Ruled | None = key(ruled(listed(one(words.precision), or_one=True)), default=None)
    usd_per_mtok: Ruled | None = key(ruled(one(units.nano_usd)), default=None)
    max_usd_per_request: Ruled | None = key(ruled(one(units.nano_usd)), default=None)
    uptime: Ruled | None = key(ruled(one(units.share)), default=None)
    ttft_p50: Ruled | None = key(_OBJECTIVE, default=None)
    ttft_p90: Ruled | None = key(_OBJECTIVE, default=None)
    ttft_p95: Ruled | None = key(_OBJECTIVE, default=None)
    ttft_p99: Ruled | None = key(_OBJECTIVE, default=None)
    itl_p50: Ruled | None = key(_OBJECTIVE, default=None)
    itl_p90: Ruled | None = key(_OBJECTIVE, default=None)
    itl_p95: Ruled | None = key(_OBJECTIVE, default=None)
    itl_p99: Ruled | None = key(_OBJECTIVE, default=None)
    e2e_p50: Ruled | None = key(_OBJECTIVE, default=None)
    e2e_p90: Ruled | None = key(_OBJECTIVE, default=None)
    e2e_p95: Ruled | None = key(_OBJECTIVE, default=None)
    e2e_p99: Ruled | None = key(_OBJECTIVE, default=None)
    perceived_tps: Ruled | None = key(_SPEED, default=None)
    perceived_tps_p50: Ruled | None = key(_SPEED, default=None)
    perceived_tps_p90: Ruled | None = key(_SPEED, default=None)
    perceived_tps_p95: Ruled | None = key(_SPEED, default=None)
    rpm: Ruled | None = key(ruled(_COUNT), default=None)
    tpm: Ruled | None = key(ruled(_COUNT), default=None)
    concurrency: Ruled | None = key(ruled(_COUNT), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A named first-match rule."""

    name: str = key(one(words.name), hint="write `name:`; it appears in headers, logs and metrics")
    match: MatchSpec = key(shaped(MatchSpec), default=MatchSpec())
    mode: Mode | None = key(_MODE, default=None)
    require: RulesSpec = key(shaped(RulesSpec), default=RulesSpec())
    want: RulesSpec = key(shaped(RulesSpec), default=RulesSpec())
    prefer: Prefer = key(one(words.one_of(Prefer)), default=Prefer.COST)
    lane_override: bool = key(one(words.flag), default=True)
    target_override: bool = key(one(words.flag), default=False)
    max_failovers: int = key(one(failovers), default=1)
    wait: float = key(one(wait), default=0.0)
    deadline: float | None = key(_SECONDS, default=None)
    hedge: HedgeSpec | None = key(shaped(HedgeSpec, shorthand="after"), default=None)


class Each(StrEnum):
    """What a budget is given to one by one."""

    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    TARGET = "target"
    ROUTE = "route"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpenderSpec:
    """Whose spending counts towards a budget; every given key must fit."""

    tenant: tuple[str, ...] | None = key(_NAMES, default=None)
    tags: tuple[str, ...] = key(_NAMES, default=())
    route: tuple[str, ...] | None = key(_NAMES, default=None)
    target: tuple[str, ...] | None = key(_NAMES, default=None)
    model: tuple[str, ...] | None = key(_NAMES, default=None)
    key: tuple[str, ...] | None = key(_NAMES, default=None)  # last: the name is the reader's until here


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """What some requests may spend together, and what becomes of them when that is used up."""

    name: str = key(one(words.name), hint="write `name:`; it appears in errors, logs and metrics")
    match: SpenderSpec = key(shaped(SpenderSpec), default=SpenderSpec())
    lane: Lane = key(_LANE, default=Lane.SHARED)
    limit: tuple[Cap, ...] = key(listed(one(caps.cap), or_one=True), hint="write `limit: $500/day`")
    enforce: Enforce | None = key(one(words.one_of(Enforce)), default=None)
    mode: Mode | None = key(_MODE, default=None)
    exhausted: tuple[Exhausted, str | None] | None = key(one(caps.exhausted), default=None)
    alerts: tuple[int, ...] = key(listed(one(caps.alert), or_one=True, may_be_empty=True), default=(50, 80, 100))
    each: Each | None = key(one(words.one_of(Each)), default=None)
