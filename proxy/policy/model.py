"""The compiled policy: immutable, printable values that every other module reads.

Theory of operation
-------------------
`compile.py` turns YAML into one `Snapshot`; a request captures the current one and keeps it to its end. Nothing here
holds a clock, a handle or a connection, and nothing is looked up by string on the request path that could have been
resolved when the policy was compiled. Money is integer nano-USD, durations are seconds, and absent means unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase


class Lane(StrEnum):
    """Where the money goes: `dedicated` GPUs paid by the hour, or a `shared` API paid per token."""

    DEDICATED = "dedicated"
    SHARED = "shared"


class Endpoint(StrEnum):
    """The routed and metered operations, by the name that metrics and policies use."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"


class Engine(StrEnum):
    """The software behind a dedicated target; `openai` is any OpenAI-compatible server without known metrics."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TRTLLM = "trtllm"
    TGI = "tgi"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


class Prefer(StrEnum):
    """What a route optimises once its gates hold. `cost` fills GPUs that are already paid for, then the cheapest."""

    COST = "cost"
    LATENCY = "latency"
    DEDICATED = "dedicated"
    SHARED = "shared"


class Traffic(StrEnum):
    """The traffic class a caller declares: a person waits (`online`) or nobody does (`offline`)."""

    ONLINE = "online"
    OFFLINE = "offline"


class Mode(StrEnum):
    """Whether a rule binds (`enforce`) or is only evaluated and recorded (`shadow`)."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Secret:
    """A provider credential. It prints as `***`; only the upstream edge calls `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Shared token prices in nano-USD per million tokens, so that $0.0375/M is still an integer.

    `cached_input` is the price of prompt tokens the provider served from its cache; None means "as input".
    `source` names where the figures come from: `policy`, or `litellm <version>`.
    """

    input_nano_usd_per_mtok: int
    output_nano_usd_per_mtok: int
    cached_input_nano_usd_per_mtok: int | None = None
    source: str = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs behind one replica; `nano_usd_per_hour` is the price of one GPU for one hour."""

    type: str
    count: int
    nano_usd_per_hour: int

    @property
    def replica_nano_usd_per_hour(self) -> int:
        """What one replica costs in an hour, used or idle."""
        return self.count * self.nano_usd_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Upstream deadlines in seconds. `idle_s` is the longest gap between two reads of a stream that has begun."""

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A shared provider's own rate limits; None is unknown."""

    rpm: int | None = None
    tpm: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One routable thing: (model, endpoint, region, lane).

    `urls` are the base URLs of its replicas, each ending in the API root (`.../v1`); shared targets have exactly one,
    or none when the provider is reached through LiteLLM without a `url`.
    `native` are the endpoints that the upstream speaks itself: those pass through as bytes. An endpoint outside it goes
    through LiteLLM when `provider` names one, and is gated off otherwise.
    `max_in_flight` is per replica.
    """

    name: str
    lane: Lane
    model: str
    region: str
    retention: str = "unknown"
    urls: tuple[str, ...] = ()
    engine: Engine | None = None
    provider: str | None = None
    api_key: Secret | None = None
    native: frozenset[Endpoint] = frozenset()
    translated: frozenset[Endpoint] = frozenset()
    tags: frozenset[str] = frozenset()
    price: Price | None = None
    gpus: Gpus | None = None
    max_in_flight: int | None = None
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @property
    def replicas(self) -> int:
        """How many there are; a target reached without a URL counts as one."""
        return max(1, len(self.urls))

    def serves(self, endpoint: Endpoint) -> bool:
        """Whether the target answers `endpoint`, natively or through LiteLLM."""
        return endpoint in self.native or endpoint in self.translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A target under one public model name, with the name that the upstream knows it by (a LoRA adapter, say)."""

    target: Target
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose key it is. `key_digests` are lower-case hex SHA-256 of the whole key; `models` None means all."""

    name: str
    key_digests: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    priority: int = 0


ANONYMOUS = Tenant(name="anonymous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """When a route applies. None matches anything; a set matches any of its members; `tags` must all be present."""

    models: frozenset[str] | None = None
    endpoints: frozenset[Endpoint] | None = None
    tenants: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()
    traffic: Traffic | None = None
    stream: bool | None = None

    @property
    def catches_all(self) -> bool:
        """Whether every request matches."""
        return self == Match()


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """Gates: never relaxed, on any path. `regions` and `retention` are lists of globs, of which one must match."""

    regions: tuple[str, ...] = ()
    retention: tuple[str, ...] = ()
    lane: Lane | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Preferences: relaxed last, and recorded when they are."""

    regions: tuple[str, ...] = ()
    retention: tuple[str, ...] = ()
    lane: Lane | None = None
    ttft_p99_s: float | None = None
    itl_p99_s: float | None = None
    uptime: float | None = None
    nano_usd_per_mtok: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A named first-match rule: match + require + want + prefer."""

    name: str
    match: Match = Match()
    require: Require = Require()
    want: Want = Want()
    prefer: Prefer = Prefer.COST
    lane_override: bool = True
    max_failovers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One compiled policy. `digest` is the SHA-256 of its source text, hex; the first 12 digits go out in headers.

    `keys` maps a key's SHA-256 digest (raw bytes) to its tenant; it is empty exactly when the policy has no tenants.
    `models` maps each public model name to its candidates, in order of preference.
    """

    digest: str
    source: str
    targets: Mapping[str, Target]
    models: Mapping[str, tuple[Candidate, ...]]
    routes: tuple[Route, ...]
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: Mapping[bytes, Tenant] = field(default_factory=dict)
    open_to_all: bool = False

    @property
    def revision(self) -> str:
        """The short form of the digest, for headers and logs."""
        return self.digest[:12]

    def tenant_of(self, key: bytes | None) -> Tenant | None:
        """The tenant a bearer key belongs to; `ANONYMOUS` when the policy has no tenants; None when it is not valid."""
        if not self.keys:
            return ANONYMOUS
        if key is None:
            return None
        return self.keys.get(hashlib.sha256(key).digest())


def matches_any(value: str, globs: tuple[str, ...]) -> bool:
    """Whether `value` matches one of the shell-style globs; an empty tuple matches everything."""
    return not globs or any(fnmatchcase(value, glob) for glob in globs)
