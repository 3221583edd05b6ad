"""Writes what became of a LiteLLM config as the text of a policy, with comments for whoever reads it next.

Theory of operation
-------------------
The text is put together line by line, in the order of the config, so that the same config gives the same bytes. A word
is written plain where YAML 1.2 reads it back as that word, and in double quotes otherwise; text from the config never
reaches a comment with a line break in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.policy.document import Place
from proxy.policy.from_litellm.budgets import BudgetOut
from proxy.policy.from_litellm.deployment import Draft
from proxy.policy.from_litellm.routes import ModelOut, RouteOut
from proxy.policy.model import Lane

WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/+@-]*(:[A-Za-z0-9._/+@-]+)*|\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that goes into the policy. `left_out` are (where, name, why)."""

    source: str
    targets: dict[str, Draft]
    models: Sequence[ModelOut]
    routes: Sequence[RouteOut]
    budgets: Sequence[BudgetOut] = ()
    left_out: Sequence[tuple[Place, str, str]]


def policy_text(outcome: Outcome) -> str:
    """The policy, ready to be checked."""
    return "\n".join(
        (
            *_head(outcome),
            *_targets(outcome),
            *_models(outcome),
            *_tenants(outcome),
            *_routes(outcome),
            *_budgets(outcome),
            "",
        )
    )


def _head(outcome: Outcome) -> Iterator[str]:
    yield from _comment(
        f"Imported from the LiteLLM config `{_file(outcome.source)}`. Look at each line that says `todo`, then run "
        "`spillway policy check` on this file."
    )
    yield from _comment(
        "todo: say where prompts go and how long they are kept, with `region` and `retention` of the targets; until "
        "then none passes a route that requires them. LiteLLM's config does not say."
    )
    yield "version: 1"


def _targets(outcome: Outcome) -> Iterator[str]:
    yield ""
    yield "targets:"
    for name, draft in outcome.targets.items():
        yield f"  {word(name)}:  # {_file(draft.place.path)}:{draft.place.line}"
        for remark in draft.remarks:
            yield from _comment(remark, "    ")
        yield from (f"    {line}" for line in _target(draft))
    if outcome.left_out:
        yield "  # left out:"
    for place, name, why in sorted(outcome.left_out):
        yield from _comment(f"{_file(place.path)}:{place.line} {name}: {why}", "  ", "  ")


def _target(draft: Draft) -> Iterator[str]:
    yield f"lane: {draft.lane}"
    if draft.provider:
        yield f"provider: {word(draft.provider)}"
    if draft.engine:
        yield f"engine: {draft.engine}"
    elif draft.lane is Lane.DEDICATED:
        yield "# todo: engine: vllm, or sglang, trtllm, tgi, llamacpp; without it, any OpenAI-compatible server"
    if len(draft.urls) == 1:
        yield f"url: {word(draft.urls[0])}"
    elif draft.urls:
        yield "urls:"
        yield from (f"  - {word(url)}" for url in draft.urls)
    yield f"model: {word(draft.model)}"
    if draft.api_key:
        yield f"api_key: ${{{draft.api_key}}}"
    if draft.endpoints:
        yield f"endpoints: {_list(draft.endpoints)}"
    if draft.region:
        yield f"region: {word(draft.region)}"
    if draft.lane is Lane.DEDICATED:
        yield "# todo: gpus: {type: H100, count: 1, usd_per_hour: 2.99} - yours, of each replica; the bill needs it"
    yield from _numbers(draft)


def _numbers(draft: Draft) -> Iterator[str]:
    if draft.price:
        given = (("input", draft.price[0]), ("output", draft.price[1]), ("cached_input", draft.price[2]))
        yield f"price: {_mapping(given)}  # $ per million tokens"
    if draft.max_in_flight:
        yield f"max_in_flight: {draft.max_in_flight}"
    limits = (("rpm", draft.rpm), ("tpm", draft.tpm), ("concurrency", draft.concurrency))
    if any(limit is not None for _, limit in limits):
        yield f"limits: {_mapping((key, _count(limit)) for key, limit in limits)}"
    if draft.context_window:
        yield f"context_window: {_count(draft.context_window)}"
    if draft.supports is not None:
        yield f"supports: {_list(draft.supports)}"
    if draft.parameters:
        members = ((word(key), _value(value)) for key, value in draft.parameters)
        yield f"parameters: {_mapping(members)}"
    if draft.tags:
        yield f"tags: {_list(draft.tags)}"
    if draft.first_token or draft.total:
        yield f"timeouts: {_mapping((('first_token', draft.first_token), ('total', draft.total)))}"


def _models(outcome: Outcome) -> Iterator[str]:
    yield ""
    yield "models:  # what apps ask for -> targets of the same quality, best first"
    for model in outcome.models:
        for remark in model.remarks:
            yield from _comment(remark, "  ")
        line = f"  {word(model.name)}: {_list(model.targets)}"
        if len(model.targets) == model.own and len(line) <= WIDTH:
            yield line
            continue
        yield f"  {word(model.name)}:"
        for index, target in enumerate(model.targets):
            if index == model.own:
                yield "    # its fallbacks in LiteLLM; todo: keep those of the same quality"
            yield f"    - {word(target)}"


def _tenants(outcome: Outcome) -> Iterator[str]:
    yield ""
    yield from _comment(
        "todo: say who may call; LiteLLM's keys are not in its config. Until there are tenants, Spillway answers this "
        'machine only. A digest is what `printf %s "$KEY" | sha256sum` prints.'
    )
    yield "# tenants:"
    yield '#   apps: {keys: ["sha256:${APPS_KEY_SHA256}"]}'


def _routes(outcome: Outcome) -> Iterator[str]:
    yield ""
    yield "routes:  # the first that matches decides"
    for route in outcome.routes:
        for remark in route.remarks:
            yield from _comment(remark, "  ")
        yield f"  - name: {word(route.name)}"
        if route.tag or route.models:
            yield "    match:"
        if route.tag:
            yield f"      tags: {_list([route.tag])}"
        if route.models:
            yield "      models:"
            yield from (f"        - {word(name)}" for name in route.models)
        if route.tag:
            yield f"    require: {{tags: {_list([route.tag])}}}"
        yield f"    prefer: {route.prefer}"
        if route.max_failovers > 1:
            yield f"    max_failovers: {route.max_failovers}"


def _budgets(outcome: Outcome) -> Iterator[str]:
    if not outcome.budgets:
        return
    yield ""
    yield from _comment(
        "LiteLLM asks before a request and charges after it: that is `enforce: soft`, which is overspent by what was "
        "in flight. todo: `enforce: hard` never is; it needs the price of every target that it pays for."
    )
    yield "budgets:"
    for budget in outcome.budgets:
        yield f"  - name: {word(budget.name)}  # {_file(budget.place.path)}:{budget.place.line}"
        if budget.match:
            yield f"    match: {_mapping((key, _list(names)) for key, names in budget.match.items())}"
        yield f"    limit: {budget.limit}"
        yield "    enforce: soft"
        yield f"    exhausted: {budget.exhausted}"


def word(text: str) -> str:
    """`text` as a scalar of YAML 1.2 that is read back as text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text, ensure_ascii=False)


def _list(words: Iterable[str]) -> str:
    return f"[{', '.join(map(_inside, words))}]"


def _mapping(pairs: Iterable[tuple[str, object]]) -> str:
    """`pairs` inside braces, without those that have no value."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in pairs if value is not None)}}}"


def _inside(text: str) -> str:
    """A word inside brackets, where `${` would open a mapping."""
    spelled = word(text)
    return json.dumps(text) if "{" in spelled and not spelled.startswith('"') else spelled


def _value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _inside(value) if isinstance(value, str) else repr(value)


def _count(number: int | None) -> str | None:
    if number is None or number % 1000:
        return None if number is None else str(number)
    return f"{number // 10**6}M" if number % 10**6 == 0 else f"{number // 1000}k"


def _comment(text: str, indent: str = "", more: str = "") -> Iterator[str]:
    """`text` as comment lines; `more` indents it inside the comment."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    line = f"{indent}# {more}"
    begun = False
    for part in plain.split():
        if begun and len(line) + len(part) >= WIDTH:
            yield line.rstrip()
            line = f"{indent}# {more}{'  ' if more else ''}"
        line += f"{part} "
        begun = True
    yield line.rstrip()


def _file(path: str) -> str:
    return path.rpartition("/")[2]
