"""From answers to the text of a policy: pure, so that `spillway init` is a conversation and nothing else.

Theory of operation
-------------------
`plan` says which routes there are and why; here they, the targets and the tenants are put into words. What the
file says, and the reasons, are written so that it can be edited without reading anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from proxy.policy.model import Endpoint, Enforce
from proxy.policy.starter.answers import Answers, DedicatedAnswer, Pattern, Product, ResidencyAnswer, SharedAnswer
from proxy.policy.starter.engine import FLAGS
from proxy.policy.starter.kinds import Profile, Rule
from proxy.policy.starter.layout import Line, flow, laid_out, rounded_up, scalar
from proxy.policy.starter.plan import (
    GPUS,
    budget_of,
    endpoint_of,
    gap_s,
    held_in_flight,
    planned_routes,
    residency_tag,
    room_of,
    works_of,
)
from proxy.policy.starter.profiles import PROFILES

PROVIDERS = "providers"
"""The name of the budget."""

_ENFORCED = {
    Enforce.HARD: "never overspent, by however many proxies: a stream is cut if need be",
    Enforce.SOFT: "what has begun is finished, and what comes after is not begun",
    Enforce.SHADOW: "only recorded",
}
_VARIABLES = {"together_ai": "TOGETHER_API_KEY", "fireworks_ai": "FIREWORKS_API_KEY", "gemini": "GEMINI_API_KEY"}
_KEYLESS = frozenset({"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat", "vertex_ai", "vertex_ai_beta"})


def starting_policy(answers: Answers) -> str:
    """A complete, commented policy."""
    sections = (
        _header(answers),
        [(0, "version: 1", "")],
        _targets(answers),
        _models(answers),
        _tenants(answers),
        _routes(answers),
        _budgets(answers),
    )
    return laid_out(line for section in sections for line in section)


def key_variable(shared: SharedAnswer) -> str:
    """The environment variable that holds a provider's key; empty where a cloud's own credentials are used."""
    if shared.api_key or shared.provider in _KEYLESS:
        return shared.api_key
    return _VARIABLES.get(shared.provider) or re.sub(r"[^A-Z0-9]+", "_", shared.provider.upper()) + "_API_KEY"


def digest_variables(tenants: Iterable[str]) -> dict[str, str]:
    """By tenant, the environment variable that holds the digest of its key; no two have the same."""
    named: dict[str, str] = {}
    for tenant in tenants:
        plain = re.sub(r"[^A-Z0-9]+", "_", tenant.upper()).strip("_") or "TENANT"
        stem = f"T_{plain}" if plain[0].isdigit() else plain
        spares = (f"{stem}_{number}_KEY_SHA256" for number in range(2, len(named) + 3))
        taken = set(named.values())
        wanted = f"{stem}_KEY_SHA256"
        named[tenant] = wanted if wanted not in taken else next(one for one in spares if one not in taken)
    return named


def variables(answers: Answers) -> tuple[str, ...]:
    """Every environment variable that the policy reads, each once."""
    return tuple(dict.fromkeys([*_keys(answers), *digest_variables(answers.usage.tenants).values()]))


def _keys(answers: Answers) -> Iterator[str]:
    named = (key_variable(one) for model in answers.models.values() for one in model.shared)
    return (name for name in dict.fromkeys(named) if name)


def _header(answers: Answers) -> Iterator[Line]:
    profile, usage = PROFILES[answers.interface], answers.usage
    product = "B2B" if usage.product is Product.B2B else "consumer"
    when = {Pattern.ONLINE: "online", Pattern.OFFLINE: "offline", Pattern.BOTH: "online and offline"}[usage.traffic]
    yield 0, f"# {str(answers.interface).capitalize()}: {profile.does}. A {product} product, {when}.", ""
    for name in _keys(answers):
        yield 0, f"#   export {name}=...", ""
    if usage.tenants:
        yield 0, "# A tenant's key is named by its digest, and the digest comes from the environment:", ""
        digest = digest_variables(usage.tenants)[usage.tenants[0]]
        command = f'KEY=$(openssl rand -hex 24); export {digest}=$(printf %s "$KEY" | sha256sum | cut -c1-64)'
        yield 0, f"#   {command}", ""


def target_names(answers: Answers) -> dict[str, tuple[tuple[str, DedicatedAnswer | SharedAnswer], ...]]:
    """By model, the names of its targets, best first; two targets of one kind are told apart by the model's name."""
    engines = sum(model.dedicated is not None for model in answers.models.values())
    providers = [one.provider for model in answers.models.values() for one in model.shared]
    named: dict[str, tuple[tuple[str, DedicatedAnswer | SharedAnswer], ...]] = {}
    taken: set[str] = set()
    for name, model in answers.models.items():
        targets: list[tuple[str, DedicatedAnswer | SharedAnswer]] = []
        if model.dedicated is not None:
            targets.append(("own" if engines == 1 else f"own-{name}", model.dedicated))
        for one in model.shared:
            short = re.sub(r"[^A-Za-z0-9._-]", "-", one.provider)
            wanted = short if providers.count(one.provider) == 1 else f"{short}-{name}"
            targets.append((_free(wanted, taken), one))
            taken.add(targets[-1][0])
        named[name] = tuple(targets)
    return named


def _free(wanted: str, taken: set[str]) -> str:
    spares = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return wanted if wanted not in taken else next(one for one in spares if one not in taken)


def _targets(answers: Answers) -> Iterator[Line]:
    profile = PROFILES[answers.interface]
    yield 0, "targets:", ""
    for model, targets in target_names(answers).items():
        for name, target in targets:
            yield 1, f"{name}:", ""
            if isinstance(target, DedicatedAnswer):
                yield from _dedicated(target, answers)
            else:
                yield from _shared(target)
            yield from _claims(target, endpoint_of(answers, model), profile)


def _dedicated(target: DedicatedAnswer, answers: Answers) -> Iterator[Line]:
    profile, gpus = PROFILES[answers.interface], target.gpus or answers.economics.gpus or GPUS
    room = room_of(target, answers, gap_s(works_of(answers)))
    yield 2, "lane: dedicated", "your own GPUs, paid by the hour: used first"
    yield 2, f"engine: {target.engine}", ""
    if len(target.url) == 1:
        yield 2, f"url: {scalar(target.url[0])}", ""
    else:
        yield 2, f"urls: {flow(map(scalar, target.url))}", "one for each replica"
    yield 2, f"model: {scalar(target.model)}", "what `curl .../v1/models` prints"
    if target.region:
        yield 2, f"region: {scalar(target.region)}", ""
    yield 2, "retention: zero", "an engine of your own keeps nothing, and trains on nothing"
    yield 2, "training: false", ""
    cost = f"{{type: {scalar(gpus.type)}, count: {gpus.count}, usd_per_hour: {gpus.usd_per_hour}}}"
    yield 2, f"gpus: {cost}", "of one replica; the price is one GPU's"
    yield 2, f"max_in_flight: {room.max_in_flight}", f"of one replica; {profile.why_in_flight}"
    if room.max_batched_tokens is not None:
        flag = f"{FLAGS[target.engine]} {room.max_batched_tokens}"
        why = f"start it with `{flag}`: a full step then keeps the pace below"
        yield 2, f"max_batched_tokens: {room.max_batched_tokens}", why


def _shared(target: SharedAnswer) -> Iterator[Line]:
    yield 2, "lane: shared", "paid by the token"
    yield 2, f"provider: {scalar(target.provider)}", ""
    if target.url is not None:
        yield 2, f"url: {scalar(target.url)}", ""
    yield 2, f"model: {scalar(target.model)}", ""
    variable = key_variable(target)
    if variable:
        yield 2, f"api_key: ${{{variable}}}", ""
    if target.region:
        yield 2, f"region: {scalar(target.region)}", ""
    if target.retention:
        yield 2, f"retention: {target.retention}", "how long it keeps prompts"
    if target.training is not None:
        yield 2, f"training: {str(target.training).lower()}", "whether it trains on prompts"
    if target.price is not None:
        yield 2, f"price: {{input: {target.price.input}, output: {target.price.output}}}", "$ per million tokens"


def _claims(target: DedicatedAnswer | SharedAnswer, endpoint: Endpoint, profile: Profile) -> Iterator[Line]:
    if endpoint is Endpoint.EMBEDDINGS:
        yield 2, "endpoints: [embeddings]", "the model makes vectors and nothing else"
    if target.quantization:
        yield 2, f"quantization: {scalar(target.quantization)}", ""
    if target.context_window:
        yield 2, f"context_window: {target.context_window}", "longer requests go elsewhere"
    if target.supports is not None:
        yield 2, f"supports: {flow(target.supports)}", "requests that need more go elsewhere"
    if profile.timeouts:
        yield 2, f"timeouts: {{{profile.timeouts}}}", profile.why_timeouts


def _models(answers: Answers) -> Iterator[Line]:
    yield 0, "models:", "what apps ask for -> targets of the same quality, best first"
    for name, targets in target_names(answers).items():
        yield 1, f"{name}: {flow(scalar(target) for target, _ in targets)}", ""


def _tenants(answers: Answers) -> Iterator[Line]:
    usage, profile, tag = answers.usage, PROFILES[answers.interface], residency_tag(answers)
    if not usage.tenants:
        return
    work = works_of(answers)[-1]
    tokens = profile.rpm * (work.input_tokens + (work.max_output_tokens or 0))
    whom = "one for each customer" if usage.product is Product.B2B else "one for each app"
    yield 0, "tenants:", whom
    for name, digest in digest_variables(usage.tenants).items():
        yield 1, f"{name}:", ""
        yield 2, f'keys: ["sha256:${{{digest}}}"]', ""
        if tag and name in (usage.residency or ResidencyAnswer(region=())).tenants:
            yield 2, f"tags: [{scalar(tag)}]", "binds it to the routes below that match the tag"
        yield 2, f"rpm: {_rounded(profile.rpm)}", "requests a minute, over all proxies; more get 429"
        yield 2, f"tpm: {_rounded(tokens)}", "as many usual requests, in tokens"
        if usage.product is Product.B2B:
            held = held_in_flight(answers, works_of(answers)) or profile.max_in_flight
            yield 2, f"concurrency: {held}", "as much as one engine holds: nobody fills them all alone"


def _rounded(count: int) -> str:
    """Two digits and a unit, upward: 1,020,000 is `1.1M`, 600 is `600`."""
    rounded = rounded_up(count)
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if rounded >= size:
            return f"{rounded / size:g}{unit}"
    return str(rounded)


def _routes(answers: Answers) -> Iterator[Line]:
    yield 0, "routes:", "the first that matches decides"
    for route in planned_routes(answers):
        yield 1, f"- name: {scalar(route.name)}", ""
        modalities = [("modality", flow(route.work.modalities))] if route.work.modalities else []
        match = [*([("tags", f"[{scalar(route.tag)}]")] if route.tag else []), *route.work.match, *modalities]
        if match:
            yield 2, f"match: {{{', '.join(f'{name}: {value}' for name, value in match)}}}", ""
        gates = [*_residency(answers.usage.residency if route.bound else None), *_rules(route.work.require)]
        if gates:
            yield 2, "require:", "never relaxed: a target outside it gets no byte"
            yield from gates
        wants = list(_rules(route.work.want))
        if wants:
            yield 2, "want:", "relaxed last, and recorded when it is"
            yield from wants
        yield 2, f"prefer: {route.work.prefer}", route.work.why
        if route.work.max_failovers != 1:
            yield 2, f"max_failovers: {route.work.max_failovers}", route.work.why_failovers


def _budgets(answers: Answers) -> Iterator[Line]:
    limit, enforce = budget_of(answers), answers.economics.enforce or Enforce.HARD
    if not limit:
        return
    yield 0, "budgets:", ""
    yield 1, f"- name: {PROVIDERS}", ""
    yield 2, f"limit: {limit}", _why_limit(answers)
    yield 2, f"enforce: {enforce}", _ENFORCED[enforce]
    if any(model.dedicated is not None for model in answers.models.values()):
        yield 2, "exhausted: dedicated_only", "then your own GPUs answer what they can hold"
    else:
        yield 2, "exhausted: reject", "then requests get 429 until the next window begins"


def _why_limit(answers: Answers) -> str:
    if answers.economics.budget is not None:
        return "your own figure, for all that is paid by the token"
    if any(model.dedicated is not None for model in answers.models.values()):
        return "all that is paid by the token: as much again as the GPUs cost"
    return "all that is paid by the token: a figure to begin with"


def _residency(residency: ResidencyAnswer | None) -> Iterator[Line]:
    if residency is None:
        return
    globs = [scalar(glob) for glob in residency.region]
    yield 3, f"region: {globs[0] if len(globs) == 1 else flow(globs)}", ""
    if residency.retention:
        yield 3, f"retention: {residency.retention}", "at most"


def _rules(rules: Iterable[Rule]) -> Iterator[Line]:
    for rule in rules:
        value = f"{{is: {rule.value}, mode: shadow}}" if rule.shadow else rule.value
        yield 3, f"{rule.key}: {value}", rule.why
