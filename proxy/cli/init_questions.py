"""The five questions of `spillway init`, asked in a terminal: each says what it is for, and Enter takes a suggestion.

Every answer is read by the reader that the policy itself uses, so a wrong one is asked for again with a remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import typer

from proxy.policy import caps, promises, units, words
from proxy.policy.model import Endpoint, Engine, matches_any
from proxy.policy.problem import Mistake
from proxy.policy.providers import NATIVE, NEEDS_URL
from proxy.policy.starter.answers import (
    Answers,
    DedicatedAnswer,
    EconomicsAnswer,
    GpusAnswer,
    LatencyAnswer,
    Minded,
    ModelAnswer,
    Pattern,
    PriceAnswer,
    Product,
    ResidencyAnswer,
    SharedAnswer,
    UsageAnswer,
    engine_url,
)
from proxy.policy.starter.kinds import Kind, Work
from proxy.policy.starter.plan import budget_of
from proxy.policy.starter.profiles import PROFILES
from proxy.policy.starter.suggestions import SUGGESTIONS, Suggestion
from proxy.policy.targets import PriceOf
from proxy.policy.urls import base_url

_T = TypeVar("_T")
Models = dict[str, ModelAnswer]

GREETING = "Five questions. Enter takes what stands in brackets; Ctrl-C leaves nothing behind."
NONE = "none"
_PROVIDERS = "LiteLLM's names: openai, anthropic, mistral, together_ai, fireworks_ai, bedrock, vertex_ai, azure ..."
FIRST_PORT = 8000
"""Where engines listen by default; a second one on the same machine takes the next."""


def interview(price_of: PriceOf, known_providers: frozenset[str]) -> Answers:
    """Ask all five, and return what was answered. Raises `typer.Abort` at the end of the input."""
    typer.echo(GREETING)
    kind = _interface()
    models = _models(kind, price_of, known_providers)
    latency = _latency(kind)
    economics, models = _economics(kind, models)
    usage = _usage(models)
    if usage.traffic is Pattern.OFFLINE and latency != LatencyAnswer():
        typer.echo("Nobody waits for offline traffic: the latency budget is left out.")
        latency = LatencyAnswer()
    return Answers(interface=kind, models=models, latency=latency, economics=economics, usage=usage)


def _interface() -> Kind:
    about = "It decides what is fast enough, and what a request may cost."
    _title(1, "What interface does your application offer?", about)
    for kind, profile in PROFILES.items():
        typer.echo(f"  {kind:<15}{profile.does}")
    return _ask("Interface", Kind.CHAT, words.one_of(Kind))


def _models(kind: Kind, price_of: PriceOf, known_providers: frozenset[str]) -> Models:
    about = "Engines of your own come first; providers take what does not fit. Both should have the same weights."
    _title(2, "Which models?", about)
    models: Models = {}
    for endpoint in dict.fromkeys(work.endpoint for work in PROFILES[kind].works):
        suggested = SUGGESTIONS[kind, endpoint]
        typer.echo(f"On the `{endpoint}` endpoint:")
        name = _ask("  Name that apps ask for", suggested.name, _not_in(models))
        url = f"http://localhost:{FIRST_PORT + len(models)}/v1"
        runs = typer.confirm("  Do you run an engine for it?", default=True)
        dedicated = _dedicated(suggested, url) if runs else None
        shared = _shared(suggested, dedicated, price_of, known_providers)
        while dedicated is None and not shared:
            typer.echo("  Something has to answer.")
            shared = _shared(suggested, None, price_of, known_providers)
        models[name] = ModelAnswer(endpoint=endpoint, dedicated=dedicated, shared=shared)
    return models


def _not_in(models: Models) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value in models:
            raise Mistake(f"`{value}` is the name of the model before", "choose another")
        return words.name(value)

    return read


def _dedicated(suggested: Suggestion, url: str) -> DedicatedAnswer:
    urls = _ask("    Its base url, or several, one for each replica", url, _several(engine_url))
    engine = _ask("    Its engine", Engine.VLLM, words.one_of(Engine))
    model = _ask("    Its model, as `curl .../v1/models` prints it", suggested.model, words.text)
    usual = (model == suggested.model and suggested.quantization) or "bf16"
    precision = _ask("    Precision of its weights, such as bf16 or fp8", usual, words.precision)
    region = _ask("    Its region, such as eu-west-1", NONE, _optional(words.region))
    return DedicatedAnswer(url=urls, engine=engine, model=model, quantization=precision, region=region)


def _shared(
    suggested: Suggestion, dedicated: DedicatedAnswer | None, price_of: PriceOf, known_providers: frozenset[str]
) -> tuple[SharedAnswer, ...]:
    def provider(name: str) -> str:
        if name not in known_providers:
            raise Mistake(f"unknown provider `{name}`", words.did_you_mean(name, known_providers) or _PROVIDERS)
        return name

    named = _ask(f"  Providers, best first, or `{NONE}`", suggested.provider, _none_or(_several(provider)))
    return tuple(_provider(name, suggested, dedicated, price_of) for name in named)


def _provider(name: str, suggested: Suggestion, dedicated: DedicatedAnswer | None, price_of: PriceOf) -> SharedAnswer:
    own = dedicated.model if dedicated else suggested.model
    same = suggested.provider_model if name == suggested.provider and own == suggested.model else own
    known = None if price_of(name, same) is None else same
    url = _ask(f"    Your address at {name}", None, base_url) if needs_url(name) else None
    model = _ask(f"    Model at {name}", known, words.text)
    price = None
    if price_of(name, model) is None:
        typer.echo(f"    The packaged price list does not know `{model}` at {name}.")
        price = PriceAnswer(
            input=_ask("    $ per million input tokens", None, _spelled(units.nano_usd)),
            output=_ask("    $ per million output tokens", None, _spelled(units.nano_usd)),
        )
    region = _ask(f"    Region of {name}, as your contract says, such as eu-west-1", NONE, _optional(words.region))
    retention = _ask(f"    How long {name} keeps prompts: zero, 30d, unknown", "unknown", words.retention)
    kept = "" if retention == "unknown" else retention
    return SharedAnswer(provider=name, url=url, model=model, price=price, region=region, retention=kept)


def needs_url(provider: str) -> bool:
    """Whether every customer of the provider has an address of their own."""
    native = NATIVE.get(provider)
    return provider in NEEDS_URL or (native is not None and native.url is None)


def _latency(kind: Kind) -> LatencyAnswer:
    _title(3, "What latency budget?", "Targets that are measured to be slower stand behind the others.")
    objectives = _objectives(PROFILES[kind].works[-1])
    typer.echo(f"  {kind} suggests: {', '.join(f'{name} {value}' for name, value in objectives.items())}")
    if typer.confirm("  Keep that?", default=True):
        return LatencyAnswer()
    given = {name: _ask(f"  {name}", value, _spelled(_reader_of(name))) for name, value in objectives.items()}
    return LatencyAnswer(**{name: value for name, value in given.items() if value != objectives[name]})


def _objectives(work: Work) -> dict[str, str]:
    return {rule.key: rule.value for rule in work.want if rule.key in LatencyAnswer.__slots__}


def _reader_of(objective: str) -> Callable[[object], float]:
    return units.tokens_per_s if objective.startswith("perceived_tps") else units.duration_s


def _economics(kind: Kind, models: Models) -> tuple[EconomicsAnswer, Models]:
    _title(4, "What unit economics?", "GPUs cost by the hour, used or idle; providers by the token.")
    with_gpus = dict(models)
    for name, model in models.items():
        if model.dedicated is not None:
            gpus = _gpus(name, SUGGESTIONS[kind, model.endpoint or Endpoint.CHAT].gpus)
            with_gpus[name] = replace(model, dedicated=replace(model.dedicated, gpus=gpus))
    limit = None
    if any(model.shared for model in models.values()):
        suggestions = [rule.value for rule in PROFILES[kind].works[-1].require if rule.key == "max_usd_per_request"]
        usual = suggestions[0] if suggestions else NONE
        answered = _ask(
            "  Most that one request may cost at a provider, in $", usual, _optional(_spelled(units.nano_usd))
        )
        limit = None if answered in ("", usual) else answered
    question = "  What counts where money and speed are at odds: budget, latency, or as suggested"
    minded = _ask(question, "suggested", _suggested_or(words.one_of(Minded)))
    economics = EconomicsAnswer(max_usd_per_request=limit, minded=minded)
    return replace(economics, budget=_budget(kind, economics, with_gpus)), with_gpus


def _budget(kind: Kind, economics: EconomicsAnswer, models: Models) -> str | None:
    """The limit to what providers may be paid, where there are some; None for what is suggested, empty for none."""
    if not any(model.shared for model in models.values()):
        return None
    suggested = budget_of(Answers(interface=kind, models=models, economics=economics)) or NONE
    question = "  Most that all providers together may be paid, such as $500/month"
    answered = _ask(question, suggested, _optional(_spelled(caps.cap)))
    return None if answered == _optional(_spelled(caps.cap))(suggested) else answered and f"${answered}"


def _gpus(name: str, suggested: GpusAnswer) -> GpusAnswer:
    return GpusAnswer(
        type=_ask(f"  Type of the GPUs behind `{name}`", suggested.type, words.name),
        count=_ask("  How many for one replica", suggested.count, units.count),
        usd_per_hour=_ask("  $ for one of them for one hour", suggested.usd_per_hour, _spelled(units.nano_usd)),
    )


def _usage(models: Models) -> UsageAnswer:
    _title(5, "What usage pattern?", "Who asks, whether anybody waits, and where prompts must stay.")
    traffic = _ask("  Traffic; offline is when nobody waits", Pattern.ONLINE, words.one_of(Pattern))
    product = _ask(
        "  Product; the tenants of one are your apps, of the other your customers",
        Product.CONSUMER,
        words.one_of(Product),
    )
    whom = "customers" if product is Product.B2B else "apps"
    tenants = _ask(
        f"  Names of your {whom}; without, only this machine is served", NONE, _none_or(_several(words.name))
    )
    globs = _ask("  Regions that prompts may not leave, such as eu-*", NONE, _none_or(_several(_region_of(models))))
    if not globs:
        return UsageAnswer(traffic=traffic, product=product, tenants=tenants)
    retention = _ask("  Longest that a provider may keep them: zero, 30d", NONE, _optional(words.retention_limit))
    bound = _ask("  Which of them are bound to that", "all", _bound(tenants)) if tenants else ()
    residency = ResidencyAnswer(region=globs, retention=retention, tenants=bound)
    return UsageAnswer(traffic=traffic, product=product, tenants=tenants, residency=residency)


def _region_of(models: Models) -> Callable[[str], str]:
    """A region glob that fits a target of every model."""

    def read(value: str) -> str:
        glob = words.region_glob(value)
        for name, model in models.items():
            regions = [one.region for one in (model.dedicated, *model.shared) if one is not None]
            if not any(one not in promises.UNKNOWN and matches_any(one, (glob,)) for one in regions):
                known = ", ".join(sorted({one for one in regions if one})) or "none was given"
                raise Mistake(f"no target of model `{name}` is in `{glob}`", f"their regions: {known}")
        return glob

    return read


def _bound(tenants: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def one(name: str) -> str:
        if name not in tenants:
            raise Mistake(f"unknown tenant `{name}`", words.did_you_mean(name, tenants))
        return name

    return lambda value: () if value == "all" else _several(one)(value)


def _title(number: int, question: str, about: str) -> None:
    typer.echo(f"\n{typer.style(f'{number} of 5', bold=True)}  {typer.style(question, bold=True)}\n{about}")


def _ask(question: str, default: Any, read: Callable[[Any], _T]) -> _T:
    """Ask until `read` can read it."""

    def checked(value: Any) -> _T:
        try:
            return read(value.strip() if isinstance(value, str) else value)
        except Mistake as mistake:
            remedy = f" ({mistake.hint})" if mistake.hint else ""
            raise typer.BadParameter(f"{mistake.message}{remedy}") from None

    answer: _T = typer.prompt(question, default=default, value_proc=checked)
    return answer


def _several(read: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """Members between commas or blanks, each once."""

    def members(value: str) -> tuple[_T, ...]:
        parts = value.replace(",", " ").split()
        if not parts:
            raise Mistake("expected at least one", "several go between commas")
        return tuple(dict.fromkeys(map(read, parts)))

    return members


def _none_or(read: Callable[[str], tuple[_T, ...]]) -> Callable[[str], tuple[_T, ...]]:
    return lambda value: () if value == NONE else read(value)


def _optional(read: Callable[[str], str]) -> Callable[[str], str]:
    return lambda value: "" if value == NONE else read(value)


def _suggested_or(read: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda value: None if value == "suggested" else read(value)


def _spelled(read: Callable[[object], object]) -> Callable[[str], str]:
    """The answer as it was typed, if it can be read."""

    def checked(value: str) -> str:
        read(value)
        return value.removeprefix("$")

    return checked
