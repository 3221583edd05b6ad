"""The shape of a policy file: what may stand where. The only place where pydantic is used.

Theory of operation
-------------------
These models check shapes and single values; whether the pieces fit together is `compile`'s business. Every leaf is read
by a function of `units`, `words`, `urls` or `credentials` that raises `Mistake`, so pydantic's own words reach nobody
(`schema_errors.py` has the few kinds that remain). `later` names keys that the design has and this release does not
enforce: they are refused, because a rule that is accepted and not enforced is a lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator

from proxy.policy import units, urls, words
from proxy.policy.credentials import api_key, key_digest
from proxy.policy.model import Endpoint, Engine, Lane, Prefer, Secret, Traffic
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown


def _one_or_more(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _candidate(value: object) -> object:
    return value if isinstance(value, dict) else {"target": value}


def _version(value: object) -> int:
    if value != 1 or isinstance(value, bool):
        raise Mistake(f"policy version {shown(value)} is not supported", "write `version: 1`")
    return 1


def _auth(value: object) -> str:
    if value != "none":
        hint = "write `auth: none` to let everybody in, or remove it and list `tenants`"
        raise Mistake(f"expected `none`, got {shown(value)}", hint)
    return "none"


def _failovers(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 5:
        raise Mistake(f"expected a whole number from 0 to 5, got {shown(value)}", "write `max_failovers: 1`")
    return value


Text = Annotated[str, PlainValidator(words.text)]
Name = Annotated[str, PlainValidator(words.name)]
Flag = Annotated[bool, PlainValidator(words.flag)]
Region = Annotated[str, PlainValidator(words.region)]
RegionGlob = Annotated[str, PlainValidator(words.region_glob)]
Retention = Annotated[str, PlainValidator(words.retention)]
Url = Annotated[str, PlainValidator(urls.base_url)]
Seconds = Annotated[float, PlainValidator(units.duration_s)]
Share = Annotated[float, PlainValidator(units.share)]
Count = Annotated[int, PlainValidator(units.count)]
NanoUsd = Annotated[int, PlainValidator(units.nano_usd)]
ApiKey = Annotated[Secret, PlainValidator(api_key)]
KeyDigest = Annotated[str, PlainValidator(key_digest)]
LaneWord = Annotated[Lane, PlainValidator(words.one_of(Lane))]
EngineWord = Annotated[Engine, PlainValidator(words.one_of(Engine))]
EndpointWord = Annotated[Endpoint, PlainValidator(words.one_of(Endpoint))]
PreferWord = Annotated[Prefer, PlainValidator(words.one_of(Prefer))]
TrafficWord = Annotated[Traffic, PlainValidator(words.one_of(Traffic))]

Names = Annotated[list[Name], BeforeValidator(_one_or_more)]
Endpoints = Annotated[list[EndpointWord], BeforeValidator(_one_or_more)]
RegionGlobs = Annotated[list[RegionGlob], BeforeValidator(_one_or_more)]
RetentionLimits = Annotated[list[Annotated[str, PlainValidator(words.retention_limit)]], BeforeValidator(_one_or_more)]


class Spec(BaseModel):
    """One mapping of the file.

    `later` has the keys that are not enforced yet and what to do meanwhile, `needs` the hints for required keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    later: ClassVar[Mapping[str, str]] = {}
    needs: ClassVar[Mapping[str, str]] = {}


class GpusSpec(Spec):
    """The GPUs behind one replica; `usd_per_hour` is for one GPU."""

    needs = {
        "type": "write `type: H100`",
        "count": "write `count: 1`",
        "usd_per_hour": "write `usd_per_hour: 2.99`, the price of one GPU for one hour",
    }

    type: Name
    count: Count
    usd_per_hour: NanoUsd


class PriceSpec(Spec):
    """Dollars per million tokens."""

    needs = {
        "input": "write `input: 0.88`, in $ per million tokens",
        "output": "write `output: 0.88`, in $ per million tokens",
    }

    input: NanoUsd
    output: NanoUsd
    cached_input: NanoUsd | None = None


class TimeoutsSpec(Spec):
    """Deadlines of one attempt at a target."""

    connect: Seconds | None = None
    first_token: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None


class TargetSpec(Spec):
    """One deployment or one provider's model."""

    later = {
        "limits": "remove it; a provider's 429 already spills or fails over",
        "dns": "list the replicas with `urls: [...]`",
        "kubernetes": "list the replicas with `urls: [...]`, or give the Service's `url`",
        "mode": "remove it; every rule is enforced",
    }
    needs = {
        "lane": "write `lane: dedicated` for your own GPUs, `lane: shared` for an api paid by the token",
        "model": "write `model:` and the name that the upstream knows it by",
    }

    lane: LaneWord
    model: Text
    engine: EngineWord | None = None
    provider: Text | None = None
    url: Url | None = None
    urls: list[Url] | None = None
    api_key: ApiKey | None = None
    endpoints: Endpoints | None = None
    region: Region = "unknown"
    retention: Retention = "unknown"
    gpus: GpusSpec | None = None
    price: PriceSpec | None = None
    max_in_flight: Count | None = None
    tags: Names = []
    timeouts: TimeoutsSpec = TimeoutsSpec.model_construct()


class CandidateSpec(Spec):
    """A target under a public model name, perhaps by another name there (a LoRA adapter)."""

    needs = {"target": "write `{target: name, model: name}`"}

    target: Name
    model: Text | None = None


class TenantSpec(Spec):
    """Whose keys these are, and what they may ask for."""

    later = {
        "rpm": "remove it; limit requests in front of the proxy meanwhile",
        "tpm": "remove it; limit tokens in front of the proxy meanwhile",
        "priority": "remove it; all tenants are served alike",
        "mode": "remove it; every rule is enforced",
    }
    needs = {"keys": 'write `keys: [sha256:...]` with what `printf %s "$KEY" | sha256sum` prints'}

    keys: Annotated[list[KeyDigest], BeforeValidator(_one_or_more)]
    tags: Names = []
    models: Names | None = None


class MatchSpec(Spec):
    """Which requests a route takes; every given key must fit."""

    model: Names | None = None
    models: Names | None = None
    endpoint: Endpoints | None = None
    tenant: Names | None = None
    tags: Names = []
    traffic: TrafficWord | None = None
    stream: Flag | None = None


class RequireSpec(Spec):
    """Gates."""

    later = {
        "max_usd_per_request": "remove it; only region, retention, lane and tags are gates yet",
        "uptime": "put it under `want`",
        "ttft_p99": "put it under `want`",
        "itl_p99": "put it under `want`",
        "usd_per_mtok": "put it under `want`",
        "mode": "remove it; every rule is enforced",
    }

    region: RegionGlobs = []
    retention: RetentionLimits = []
    lane: LaneWord | None = None
    tags: Names = []


class WantSpec(Spec):
    """Preferences."""

    later = {
        "tags": "put it under `require`",
        "max_usd_per_request": "use `usd_per_mtok`",
        "mode": "remove it; every rule is enforced",
    }

    region: RegionGlobs = []
    retention: RetentionLimits = []
    lane: LaneWord | None = None
    ttft_p99: Seconds | None = None
    itl_p99: Seconds | None = None
    uptime: Share | None = None
    usd_per_mtok: NanoUsd | None = None


class RouteSpec(Spec):
    """A named first-match rule."""

    later = {
        "deadline": "remove it; offline requests are answered at once, like the others",
        "mode": "remove it; every rule is enforced",
    }
    needs = {"name": "write `name:`; it appears in headers, logs and metrics"}

    name: Name
    match: MatchSpec = MatchSpec.model_construct()
    require: RequireSpec = RequireSpec.model_construct()
    want: WantSpec = WantSpec.model_construct()
    prefer: PreferWord = Prefer.COST
    lane_override: Flag = True
    max_failovers: Annotated[int, PlainValidator(_failovers)] = 1


class PolicySpec(Spec):
    """The whole policy."""

    later = {"budgets": "remove it; nothing would stop the spending yet"}
    needs = {
        "version": "write `version: 1` as the first line",
        "targets": "name at least one deployment or provider under `targets:`",
        "models": "write `models:` and, for each name that apps ask for, its targets: `name: [target, ...]`",
    }

    version: Annotated[int, PlainValidator(_version)]
    targets: dict[Name, TargetSpec]
    models: dict[Name, list[Annotated[CandidateSpec, BeforeValidator(_candidate)]]]
    tenants: dict[Name, TenantSpec] = {}
    auth: Annotated[str, PlainValidator(_auth)] | None = None
    routes: list[RouteSpec] | None = None
