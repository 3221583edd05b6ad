"""The answers from which a starting policy is written, and how they are read from a YAML file.

Theory of operation
-------------------
Five questions, five keys: `interface`, `models`, `latency`, `economics`, `usage`. Values are checked by the readers of
the policy itself, so a wrong one is refused here with its place and a remedy, and kept as it was spelled, so that the
policy reads like the answers. What is left out is what the kind of application suggests.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.policy import caps, promises, units, words
from proxy.policy.document import Loc, read_document
from proxy.policy.findings import Findings
from proxy.policy.model import Capability, Endpoint, Enforce, Engine, matches_any
from proxy.policy.problem import Mistake, PolicyError
from proxy.policy.shape import BROKEN, Reader, key, listed, one, shaped
from proxy.policy.source import SourceFile
from proxy.policy.starter.kinds import Kind
from proxy.policy.urls import base_url, has_path
from proxy.policy.variables import Interpolated, shown

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Minded(StrEnum):
    """What counts more where money and speed are at odds."""

    BUDGET = "budget"
    LATENCY = "latency"


class Product(StrEnum):
    """Who the tenants are: the company's own apps, or its customers."""

    CONSUMER = "consumer"
    B2B = "b2b"


class Pattern(StrEnum):
    """Whether somebody waits for the answers."""

    ONLINE = "online"
    OFFLINE = "offline"
    BOTH = "both"


def spelled(parse: Callable[[object], object]) -> Reader:
    """The value as it was written, if `parse` can read it."""

    def read(value: object) -> str:
        if isinstance(value, Interpolated):
            raise Mistake(
                f"an answer is a plain value, not {shown(value)}", "write it out; put variables in the policy"
            )
        parse(value)
        return str(value)

    return one(read)


def engine_url(value: object) -> str:
    """The base URL of an engine: not only its host."""
    url = base_url(value)
    if not has_path(url):
        raise Mistake(f"{shown(value)} has no path", f"engines serve their api under /v1: `{url}/v1`")
    return url


def variable(value: object) -> str:
    """The name of an environment variable; never a key."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise Mistake("expected the name of an environment variable", "write `api_key: OPENAI_API_KEY`, never the key")
    return value


_NAME = one(words.name)
_TEXT = one(words.text)
_USD = spelled(units.nano_usd)
_CAP = spelled(caps.cap)
_SECONDS = spelled(units.duration_s)
_SPEED = spelled(units.tokens_per_s)
_TOKENS = spelled(units.count)
_SUPPORTS = listed(one(words.one_of(Capability)), or_one=True, may_be_empty=True)
_REGIONS = listed(one(words.region_glob), or_one=True)
_NAMES = listed(_NAME, or_one=True, may_be_empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusAnswer:
    """The GPUs behind one replica."""

    type: str = key(_NAME, default="H100")
    count: int = key(one(units.count), default=1)
    usd_per_hour: str = key(_USD, hint="write `usd_per_hour: 2.99`, the price of one GPU for one hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedAnswer:
    """An engine of one's own."""

    url: tuple[str, ...] = key(
        listed(one(engine_url), or_one=True),
        hint="write `url: http://host:8000/v1`, or a list with one for each replica",
    )
    model: str = key(_TEXT, hint="write `model:` and what `curl host:8000/v1/models` prints")
    engine: Engine = key(one(words.one_of(Engine)), default=Engine.VLLM)
    region: str = key(one(words.region), default="")
    gpus: GpusAnswer | None = key(shaped(GpusAnswer), default=None)
    quantization: str = key(one(words.precision), default="")
    context_window: str = key(_TOKENS, default="")
    supports: tuple[Capability, ...] | None = key(_SUPPORTS, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceAnswer:
    """Dollars per million tokens."""

    input: str = key(_USD, hint="write `input: 0.88`, in $ per million tokens")
    output: str = key(_USD, hint="write `output: 0.88`, in $ per million tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedAnswer:
    """A provider's model. `api_key` is the name of the variable that will hold the key, never the key."""

    provider: str = key(_TEXT, hint="write `provider: openai`, or another of LiteLLM's names")
    model: str = key(_TEXT, hint="write `model:` and the provider's name for it")
    url: str | None = key(one(base_url), default=None)
    api_key: str = key(one(variable), default="")
    region: str = key(one(words.region), default="")
    retention: str = key(spelled(words.retention), default="")
    training: bool | None = key(one(words.flag), default=None)
    price: PriceAnswer | None = key(shaped(PriceAnswer), default=None)
    quantization: str = key(one(words.precision), default="")
    context_window: str = key(_TOKENS, default="")
    supports: tuple[Capability, ...] | None = key(_SUPPORTS, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What stands behind one name that apps ask for."""

    endpoint: Endpoint | None = key(one(words.one_of(Endpoint)), default=None)
    dedicated: DedicatedAnswer | None = key(shaped(DedicatedAnswer), default=None)
    shared: tuple[SharedAnswer, ...] = key(listed(shaped(SharedAnswer), may_be_empty=True), default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyAnswer:
    """Objectives that replace those of the kind on its main route."""

    ttft_p50: str | None = key(_SECONDS, default=None)
    ttft_p90: str | None = key(_SECONDS, default=None)
    ttft_p95: str | None = key(_SECONDS, default=None)
    ttft_p99: str | None = key(_SECONDS, default=None)
    e2e_p50: str | None = key(_SECONDS, default=None)
    e2e_p90: str | None = key(_SECONDS, default=None)
    e2e_p95: str | None = key(_SECONDS, default=None)
    e2e_p99: str | None = key(_SECONDS, default=None)
    perceived_tps: str | None = key(_SPEED, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicsAnswer:
    """What GPUs cost, and what a request, a token, or all that is bought from providers may.

    `enforce` says how the budget binds; left out, it is hard if every price is known.
    """

    gpus: GpusAnswer | None = key(shaped(GpusAnswer), default=None)
    max_usd_per_request: str | None = key(_USD, default=None)
    usd_per_mtok: str | None = key(_USD, default=None)
    minded: Minded | None = key(one(words.one_of(Minded)), default=None)
    budget: str | None = key(_CAP, default=None)
    enforce: Enforce | None = key(one(words.one_of(Enforce)), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyAnswer:
    """Where prompts must stay, and how long they may be kept; `tenants` are those bound to it, all when empty."""

    region: tuple[str, ...] = key(_REGIONS, hint="write `region: eu-*`")
    retention: str = key(spelled(words.retention_limit), default="")
    tenants: tuple[str, ...] = key(_NAMES, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAnswer:
    """Who asks, and whether anybody waits."""

    traffic: Pattern = key(one(words.one_of(Pattern)), default=Pattern.ONLINE)
    product: Product = key(one(words.one_of(Product)), default=Product.CONSUMER)
    tenants: tuple[str, ...] = key(_NAMES, default=())
    residency: ResidencyAnswer | None = key(shaped(ResidencyAnswer), default=None)


def _models(value: object, loc: Loc, findings: Findings) -> Any:
    if not isinstance(value, dict) or not value:
        findings.problem(loc, f"expected a mapping of models, got {shown(value)}", "write `models: {chat: {...}}`")
        return BROKEN
    read = {name: _MODEL(item, (*loc, name), findings) for name, item in value.items()}
    for name in value:
        try:
            words.name(name)
        except Mistake as mistake:
            findings.mistake((*loc, name), mistake, key=True)
            read[name] = BROKEN
    return BROKEN if any(item is BROKEN for item in read.values()) else read


_MODEL = shaped(ModelAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All five."""

    interface: Kind = key(
        one(words.one_of(Kind)), hint=f"write `interface: chat`, or another of {', '.join(map(str, Kind))}"
    )
    models: dict[str, ModelAnswer] = key(_models, hint="write `models: {chat: {dedicated: {...}, shared: [...]}}`")
    latency: LatencyAnswer = key(shaped(LatencyAnswer), default=LatencyAnswer())
    economics: EconomicsAnswer = key(shaped(EconomicsAnswer), default=EconomicsAnswer())
    usage: UsageAnswer = key(shaped(UsageAnswer), default=UsageAnswer())


_ANSWERS = shaped(Answers)


def read_answers(file: SourceFile) -> Answers:
    """The answers in `file`; raises `PolicyError` with everything that is wrong with them."""
    document = read_document((file,), {})
    findings = Findings(document)
    answers: Any = BROKEN if () in document.broken else _ANSWERS(document.root, (), findings)
    if isinstance(answers, Answers):
        note_contradictions(answers, findings)
    if findings.problems or not isinstance(answers, Answers):
        raise PolicyError(findings.problems)
    return answers


def note_contradictions(answers: Answers, findings: Findings) -> None:
    """Answers that are sound one by one, and could not make a policy together."""
    for name, model in answers.models.items():
        if model.dedicated is None and not model.shared:
            hint = "give it `dedicated: {url: ..., model: ...}`, `shared: [{provider: ..., model: ...}]`, or both"
            findings.problem(("models", name), f"model `{name}` has no target", hint, key=True)
    usage, objectives = answers.usage, any(getattr(answers.latency, name) for name in LatencyAnswer.__slots__)
    if usage.traffic is Pattern.OFFLINE and objectives:
        hint = "remove `latency`, or write `traffic: both`"
        findings.problem(("latency",), "nobody waits for offline traffic", hint, key=True)
    if answers.economics.budget is not None and not any(model.shared for model in answers.models.values()):
        hint = "remove it: your own GPUs are paid by the hour, whatever they do"
        findings.problem(("economics", "budget"), "no provider is there to be paid", hint, key=True)
    if usage.residency is not None:
        _note_residency(answers, usage.residency, findings)


def _note_residency(answers: Answers, residency: ResidencyAnswer, findings: Findings) -> None:
    loc: Loc = ("usage", "residency")
    for index, name in enumerate(residency.tenants):
        if name not in answers.usage.tenants:
            hint = words.did_you_mean(name, answers.usage.tenants) or "list it under `tenants`"
            findings.problem((*loc, "tenants", index), f"unknown tenant `{name}`", hint)
    for name, model in answers.models.items():
        regions = [one.region for one in (model.dedicated, *model.shared) if one is not None]
        if not any(one not in promises.UNKNOWN and matches_any(one, residency.region) for one in regions):
            wanted = ", ".join(residency.region)
            hint = "give one of its targets a `region` there; a region that is not stated is nowhere"
            findings.problem((*loc, "region"), f"no target of model `{name}` is in `{wanted}`", hint)
