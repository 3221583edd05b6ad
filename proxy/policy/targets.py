"""Compiles `targets`: checks that a target's keys fit its lane, and resolves what it speaks and what it costs.

Theory of operation
-------------------
A target is native for the endpoints that its engine or provider serves itself, and translated for what LiteLLM can make
of it; `endpoints:` overrides the native set. Nothing is guessed at run time: an endpoint in neither set is gated off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from types import MappingProxyType

from proxy.policy import providers
from proxy.policy.checks import Check
from proxy.policy.discovery_terms import PLACES, check_places, compile_discovery, service_url
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.gpu_terms import compile_gpus
from proxy.policy.model import UNLIMITED, Discovery, Endpoint, Engine, Lane, Price, Target, Timeouts
from proxy.policy.price_terms import compile_price
from proxy.policy.profile_terms import compile_profile
from proxy.policy.schema import TargetSpec
from proxy.policy.tenants import limits_of
from proxy.policy.urls import has_path, is_clear_text_to_public_host
from proxy.policy.wake_terms import compile_wake
from proxy.policy.words import did_you_mean

PriceOf = Callable[[str, str], Price | None]
"""(provider, model) -> the list price, or None when it is not known."""

MISFITS = {
    Lane.DEDICATED: {
        "provider": "dedicated targets name an `engine`; for an api paid by the token write `lane: shared`",
        "price": "your own GPUs are paid by the hour: `gpus: {type: H100, count: 1, usd_per_hour: 2.99}`",
        "limits": "your own GPUs have none; `max_in_flight: 64` caps each replica",
    },
    Lane.SHARED: {
        "engine": "shared targets name a `provider` or a `url`; for your own GPUs write `lane: dedicated`",
        "gpus": "shared targets are paid by the token: `price: {input: 0.88, output: 0.88}`",
        "urls": "a shared target has one `url`; list a second target for a second one",
        "dns": "a provider has one address; it is your own replicas that are found",
        "kubernetes": "a provider has one address; it is your own replicas that are found",
        "max_batched_tokens": "it is how your own engine was started; the provider's is its own business",
        "engine_profile": "it says how your own engine steps; nobody knows what a provider's does",
        "wake": "a provider does not sleep; it is your own GPUs that are woken",
    },
}
"""By lane, the keys of a target that do not fit it, and what to write instead."""


def compile_target(name: str, spec: TargetSpec, price_of: PriceOf, findings: Findings) -> Target:
    """The target `name`; whatever does not fit goes to `findings`."""
    loc: Loc = ("targets", name)
    for key, hint in MISFITS[spec.lane].items():
        if getattr(spec, key) is not None:
            findings.problem(
                (*loc, key), f"`{key}` does not fit a {spec.lane} target", hint, key=True, check=Check.CONTRADICTION
            )
    discovery = compile_discovery(spec.dns, spec.kubernetes)
    urls = _urls(loc, spec, discovery, findings)
    native, translated = _endpoints(spec, findings, loc)
    if spec.lane is Lane.DEDICATED:
        _check_dedicated(loc, spec, urls, findings)
    else:
        urls = _check_shared(loc, spec, urls, findings)
    gpus = None if spec.gpus is None else compile_gpus((*loc, "gpus"), spec.gpus, urls, discovery, findings)
    return Target(
        name=name,
        lane=spec.lane,
        model=spec.model,
        region=spec.region,
        retention=spec.retention,
        urls=urls,
        engine=(spec.engine or Engine.OPENAI) if spec.lane is Lane.DEDICATED else None,
        provider=spec.provider,
        api_key=spec.api_key,
        native=native,
        translated=translated,
        tags=frozenset(spec.tags),
        price=_price(loc, spec, price_of, findings) if spec.lane is Lane.SHARED else None,
        gpus=gpus,
        max_in_flight=_max_in_flight(spec),
        max_batched_tokens=spec.max_batched_tokens,
        profile=compile_profile((*loc, "engine_profile"), spec, gpus, findings),
        wake=None if spec.wake is None else compile_wake((*loc, "wake"), spec.wake, findings),
        discovery=discovery,
        limits=UNLIMITED if spec.limits is None else limits_of(spec.limits),
        timeouts=_timeouts(spec),
        trains=spec.training,
        quantization=spec.quantization,
        context_window=spec.context_window,
        supports=None if spec.supports is None else frozenset(spec.supports),
        parameters=MappingProxyType(spec.parameters or {}),
    )


def _urls(loc: Loc, spec: TargetSpec, discovery: Discovery | None, findings: Findings) -> tuple[str, ...]:
    given = [name for name in PLACES if getattr(spec, name) is not None]
    if len(given) > 1:
        check_places(loc, given, findings)
    if discovery is not None:
        return (service_url(discovery),)
    urls = tuple(spec.urls or ()) if spec.url is None else (spec.url,)
    for index, url in enumerate(urls):
        if url in urls[:index]:
            message = f"the same replica twice: `{url}`"
            findings.problem((*loc, "urls", index), message, "list each replica once", check=Check.DUPLICATE)
    return urls


def _check_dedicated(loc: Loc, spec: TargetSpec, urls: tuple[str, ...], findings: Findings) -> None:
    if not urls:
        hint = "write `url: http://host:8000/v1`, or `urls:`, or `dns:` or `kubernetes:` to have them found"
        findings.problem(loc, "a dedicated target needs a `url`", hint, key=True, check=Check.MISSING_KEY)
    for index, url in enumerate(urls):
        at: Loc = (*loc, "urls", index) if spec.urls is not None else (*loc, _place(spec))
        if spec.engine not in (None, Engine.OPENAI) and not has_path(url):
            findings.problem(at, f"`{url}` has no path", f"{spec.engine} serves its api under /v1: `{url}/v1`")
        if spec.api_key is not None and is_clear_text_to_public_host(url):
            message = f"the key goes in clear to `{url}`, which may be public"
            findings.warning(Check.CLEAR_TEXT_KEY, at, message, "use https")
    if spec.gpus is None and spec.lane is Lane.DEDICATED:
        hint = "add `gpus: {type: H100, count: 1, usd_per_hour: 2.99}`"
        message = f"no `gpus` for `{loc[-1]}`: its GPU-hours cannot be metered"
        findings.warning(Check.UNMETERED_GPUS, loc, message, hint)


def _place(spec: TargetSpec) -> str:
    return next(name for name in PLACES if getattr(spec, name) is not None)


def _check_shared(loc: Loc, spec: TargetSpec, urls: tuple[str, ...], findings: Findings) -> tuple[str, ...]:
    known = providers.NATIVE.get(spec.provider or "")
    if spec.provider is None and not urls:
        hint = "write `provider: openai` (or another), or the `url` of an OpenAI-compatible api"
        findings.problem(loc, "a shared target needs a `provider` or a `url`", hint, key=True, check=Check.MISSING_KEY)
    if not urls and (spec.provider in providers.NEEDS_URL or (known is not None and known.url is None)):
        hint = "write `url:` and the address of yours"
        message = f"provider `{spec.provider}` has no address of its own"
        findings.problem((*loc, "provider"), message, hint, check=Check.MISSING_KEY)
    elif not urls and known is not None and spec.api_key is None:
        hint = f"write `api_key: ${{{(spec.provider or '').upper()}_API_KEY}}`"
        message = f"provider `{spec.provider}` needs an `api_key`"
        findings.problem(loc, message, hint, key=True, check=Check.MISSING_KEY)
    for url in urls:
        if is_clear_text_to_public_host(url):
            hint = "use https; a name inside the cluster ends in `.svc` or `.svc.cluster.local`"
            message = f"prompts and key would go in clear to `{url}`"
            findings.problem((*loc, "url"), message, hint, check=Check.CLEAR_TEXT)
    if not urls and known is not None and known.url is not None:
        return (known.url,)
    return urls


def _endpoints(spec: TargetSpec, findings: Findings, loc: Loc) -> tuple[frozenset[Endpoint], frozenset[Endpoint]]:
    """(native, translated) for the target."""
    if spec.lane is Lane.DEDICATED:
        native = providers.ENGINES[spec.engine or Engine.OPENAI]
        compatible, translatable = True, frozenset[Endpoint]()
    elif spec.provider is None:
        native, compatible, translatable = providers.OPENAI_COMPATIBLE, True, frozenset[Endpoint]()
    else:
        provider = providers.NATIVE.get(spec.provider)
        native = provider.native if provider else frozenset()
        compatible = provider is not None and provider.speaks_openai
        translatable = providers.translatable(spec.provider)
        if provider is None and not translatable:
            hint = did_you_mean(spec.provider, providers.known_providers())
            hint = hint or "use LiteLLM's name for it, or give its OpenAI-compatible `url` and no provider"
            message = f"unknown provider `{spec.provider}`"
            findings.problem((*loc, "provider"), message, hint, check=Check.UNKNOWN_NAME)
    if spec.endpoints is not None:
        native = frozenset(spec.endpoints)
    if compatible:
        translatable = providers.FROM_CHAT if Endpoint.CHAT in native else frozenset()
    return native, translatable - native


def priced_for(target: Target, model: str, price_of: PriceOf) -> Target:
    """`target` at the list price of another of its upstream models."""
    if target.lane is Lane.DEDICATED or target.provider is None:
        return target
    return replace(target, price=_list_price(target.provider, model, target.region, price_of))


def _price(loc: Loc, spec: TargetSpec, price_of: PriceOf, findings: Findings) -> Price | None:
    if spec.price is not None:
        return compile_price((*loc, "price"), spec.price, findings)
    price = _list_price(spec.provider, spec.model, spec.region, price_of) if spec.provider else None
    if price is None:
        hint = "add `price: {input: 0.88, output: 0.88}`, in $ per million tokens"
        message = f"no price is known for `{loc[-1]}`: its charges will be marked unknown"
        findings.warning(Check.UNKNOWN_PRICE, loc, message, hint)
    return price


def _list_price(provider: str, model: str, region: str, price_of: PriceOf) -> Price | None:
    """The list has some prices for one region only, under `region/model`."""
    local = price_of(provider, f"{region}/{model}") if region != "unknown" else None
    return local or price_of(provider, model)


def _max_in_flight(spec: TargetSpec) -> int | None:
    """A provider's concurrency is a cap like our own; it has one replica."""
    caps = (spec.max_in_flight, None if spec.limits is None else spec.limits.concurrency)
    return min((cap for cap in caps if cap is not None), default=None)


def _timeouts(spec: TargetSpec) -> Timeouts:
    given = {f"{key}_s": seconds for key, seconds in asdict(spec.timeouts).items() if seconds is not None}
    return Timeouts(**given)
