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
from enum import IntEnum, StrEnum
from fnmatch import fnmatchcase

from proxy.policy.cap import Cap as Cap  # noqa: PLC0414  (part of the model)
from proxy.policy.cap import Enforce as Enforce  # noqa: PLC0414
from proxy.policy.cap import Exhausted as Exhausted  # noqa: PLC0414
from proxy.policy.cap import Per as Per  # noqa: PLC0414
from proxy.policy.discovery import Discovery as Discovery  # noqa: PLC0414  (part of the model)
from proxy.policy.engine_profile import EngineProfile as EngineProfile  # noqa: PLC0414  (part of the model)
from proxy.policy.gpus import Gpus as Gpus  # noqa: PLC0414  (part of the model)
from proxy.policy.hedge import Hedge as Hedge  # noqa: PLC0414
from proxy.policy.hedge import Quantile as Quantile  # noqa: PLC0414
from proxy.policy.modality import NEEDED as NEEDED  # noqa: PLC0414
from proxy.policy.modality import Capability as Capability  # noqa: PLC0414
from proxy.policy.modality import Modality as Modality  # noqa: PLC0414
from proxy.policy.price import Price as Price  # noqa: PLC0414  (part of the model)
from proxy.policy.schedule import Schedule as Schedule  # noqa: PLC0414  (part of the model)
from proxy.policy.wake import Wake as Wake  # noqa: PLC0414


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


class Priority(IntEnum):
    """Who goes first when not all can be served in time; the lowest are refused first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Mode(StrEnum):
    """Whether a rule binds (`enforce`) or is only evaluated and recorded (`shadow`)."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Secret:
    """A provider credential. It prints as `***`; only who asks upstreams, the edge or `calibrate`, calls `reveal()`."""

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
class Timeouts:
    """Upstream deadlines in seconds. `idle_s` is the longest gap between two reads of a stream that has begun."""

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Rates a minute, and requests at one time, of all proxies together; None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    mode: Mode = Mode.ENFORCE

    def __bool__(self) -> bool:
        return self.rpm is not None or self.tpm is not None or self.concurrency is not None


UNLIMITED = Limits()


_NO_URL = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One routable thing: (model, endpoint, region, lane).

    `urls` are the base URLs of its replicas, each ending in the API root (`.../v1`); shared targets have exactly one,
    or none when the provider is reached through LiteLLM without a `url`. With `discovery` they are those found last,
    of which there may be none at all.
    `native` are the endpoints that the upstream speaks itself: those pass through as bytes. An endpoint outside it goes
    through LiteLLM when `provider` names one, and is gated off otherwise.
    `max_in_flight` is per replica, and so is `max_batched_tokens`, what the engine puts into one step at most;
    `profile` is how long its steps take, None where nothing is assumed; `limits` are the provider's own.
    `wake` is how the deployment is started when nothing of it runs; None leaves that to others.
    `trains` says whether prompts may be used for training. `context_window` is in tokens, input and output together;
    None, like `supports` None, claims nothing. `parameters` are body members that every request sent here carries.
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
    max_batched_tokens: int | None = None
    profile: EngineProfile | None = None
    wake: Wake | None = None
    discovery: Discovery | None = None
    limits: Limits = UNLIMITED
    timeouts: Timeouts = Timeouts()
    trains: bool | None = None
    quantization: str = "unknown"
    context_window: int | None = None
    supports: frozenset[Capability] | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict, hash=False)

    @property
    def replicas(self) -> int:
        """How many can be addressed."""
        return len(self.addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The URL of each replica; empty for the one of a target that LiteLLM reaches by its provider's name."""
        return self.urls or (_NO_URL if self.discovery is None else ())

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
    """Whose key it is; `models` None means all. `request_tags` are those a caller may add to a request, None is any.

    `priority` is the highest that its requests can have.
    """

    name: str
    tags: frozenset[str] = frozenset()
    request_tags: frozenset[str] | None = frozenset()
    models: frozenset[str] | None = None
    limits: Limits = UNLIMITED
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One of a tenant's keys. `name` is empty, or `tenant/name`; `tags` are the tenant's and its own together."""

    tenant: Tenant
    name: str = ""
    tags: frozenset[str] = frozenset()
    limits: Limits = UNLIMITED


ANONYMOUS = Tenant(name="anonymous", request_tags=None)
NO_KEY = Key(tenant=ANONYMOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """When a route applies. None matches anything; a set matches any of its members; `tags` must all be present.

    Token counts are of the input, as estimated, both ends included. `Modality.TEXT` stands for text and nothing else.
    """

    models: frozenset[str] | None = None
    endpoints: frozenset[Endpoint] | None = None
    tenants: frozenset[str] | None = None
    keys: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()
    traffic: Traffic | None = None
    stream: bool | None = None
    modalities: frozenset[Modality] | None = None
    tools: bool | None = None
    min_input_tokens: int | None = None
    max_input_tokens: int | None = None
    schedule: Schedule | None = None

    @property
    def catches_all(self) -> bool:
        """Whether every request matches."""
        return self == Match()


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A limit on a measured quantile: `ttft_p99: 800ms` has the rule `ttft_p99` and the field `ttft_p99_s`.

    Perceived speed is kept as the gap between tokens that it allows: 30 tokens/s is an ITL of at most 1/30 s, and the
    99 % of responses that are at least so fast are those below the 99th percentile of that gap.
    """

    rule: str
    field: str
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be required of a target, or wanted. `regions` and `retention` are lists of globs, one of which must fit.

    `no_training` asks for a target that does not train on prompts. Money per million tokens is the blended price.
    `uptime` is a share of successes. `limits` are the route's own, of all its requests together.
    """

    regions: tuple[str, ...] = ()
    retention: tuple[str, ...] = ()
    lane: Lane | None = None
    tags: frozenset[str] = frozenset()
    no_training: bool = False
    quantization: frozenset[str] = frozenset()
    nano_usd_per_mtok: int | None = None
    max_nano_usd_per_request: int | None = None
    uptime: float | None = None
    objectives: tuple[Objective, ...] = ()
    limits: Limits = UNLIMITED


NO_RULES = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A named first-match rule: `require` is never relaxed, `want` last and on record; shadows are only recorded.

    `wait_s` is how long a request may wait for room, 0 is not at all. `deadline_s` is when offline traffic must be
    answered: until then it waits for GPUs that have nothing else to do. `hedge` None sends no copies.
    """

    name: str
    match: Match = Match()
    require: Rules = NO_RULES
    want: Rules = NO_RULES
    shadow_require: Rules = NO_RULES
    shadow_want: Rules = NO_RULES
    prefer: Prefer = Prefer.COST
    lane_override: bool = True
    target_override: bool = False
    max_failovers: int = 1
    wait_s: float = 0.0
    deadline_s: float | None = None
    hedge: Hedge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps on what the requests that match may spend together; None matches all, `tags` must all be there.

    `lane` is where the money is counted: shared tokens, or the attributed share of dedicated GPU time. `downgrade` is
    the public model to serve instead. `alerts` are percentages of each cap. `group` is the name as it is written, where
    `each` made several budgets of one; it is empty otherwise.
    """

    name: str
    caps: tuple[Cap, ...]
    enforce: Enforce = Enforce.HARD
    exhausted: Exhausted = Exhausted.DEDICATED_ONLY
    downgrade: str | None = None
    alerts: tuple[int, ...] = (50, 80, 100)
    lane: Lane = Lane.SHARED
    tenants: frozenset[str] | None = None
    keys: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()
    routes: frozenset[str] | None = None
    targets: frozenset[str] | None = None
    models: frozenset[str] | None = None
    group: str = ""

    def pays_for(self, target: Target) -> bool:
        """Whether money spent on `target`, by a request that matches in all else, is this budget's."""
        return target.lane is self.lane and (self.targets is None or target.name in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One compiled policy. `digest` is the SHA-256 of its source text, hex; the first 12 digits go out in headers.

    `keys` maps the raw SHA-256 digest of a key to what it opens: tenants whose keys were all revoked let nobody in.
    `models` maps each public model name to its candidates, in order of preference. `reads_content` says that some rule
    asks what a prompt holds or how long it is; where none does, prompts of plain text are not looked into.
    """

    digest: str
    source: str
    targets: Mapping[str, Target]
    models: Mapping[str, tuple[Candidate, ...]]
    routes: tuple[Route, ...]
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    keys: Mapping[bytes, Key] = field(default_factory=dict)
    open_to_all: bool = False
    reads_content: bool = True
    budgets: tuple[Budget, ...] = ()

    @property
    def revision(self) -> str:
        """The short form of the digest, for headers and logs."""
        return self.digest[:12]

    def key_of(self, key: bytes | None) -> Key | None:
        """What a bearer key opens; `NO_KEY` when the policy has no tenants; None when it is not valid."""
        if not self.keys and not self.tenants:
            return NO_KEY
        if key is None:
            return None
        return self.keys.get(hashlib.sha256(key).digest())


def matches_any(value: str, globs: tuple[str, ...]) -> bool:
    """Whether `value` matches one of the shell-style globs; an empty tuple matches everything."""
    return not globs or any(fnmatchcase(value, glob) for glob in globs)
