"""From deployments to targets and models: which deployments are one target, and which targets stand behind a name.

Theory of operation
-------------------
LiteLLM shuffles the deployments that share a `model_name`, lowest `order` first, and then turns to the fallbacks. A
*layer* is a set of deployments among which LiteLLM has no order: one `order` of one group. In a layer, engines that
differ only in their address are replicas of one target, and dedicated targets come before shared ones, because they are
paid for already. Equal deployments under several names are one target, unless something is counted for them: LiteLLM
counts for each entry.

A wildcard (`openai/*`) has no equivalent, because a policy names what may be asked for. It is imported for the names
that the config itself uses, in fallbacks and aliases, and for those that the caller of the importer gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from urllib.parse import urlsplit

from proxy.policy import words
from proxy.policy.document import Loc, Place
from proxy.policy.from_litellm.deployment import Draft, draft
from proxy.policy.from_litellm.document import Config, Note
from proxy.policy.from_litellm.given import Keys
from proxy.policy.model import Lane
from proxy.policy.problem import Mistake

Layers = tuple[tuple[str, ...], ...]
"""Names of targets, in the order of preference; those of one layer are equals."""


@dataclass(slots=True)
class Groups:
    """Targets by name (and their names), and for each of LiteLLM's model groups its layers of them.

    `left_out` are (where, name, why) of what could not be imported.
    """

    targets: dict[str, Draft] = field(default_factory=dict)
    names: dict[Draft, str] = field(default_factory=dict)
    layers: dict[str, Layers] = field(default_factory=dict)
    left_out: list[tuple[Place, str, str]] = field(default_factory=list)


def read_groups(config: Config, keys: Keys, wanted: Iterable[str]) -> Groups:
    """The groups of the config, and those that a wildcard stands for among the `wanted` names."""
    groups = Groups()
    wildcards: dict[str, list[int]] = {}
    drafts: dict[str, list[Draft]] = {}
    for index, item in enumerate(config.root["model_list"]):
        name = config.take(("model_list", index, "model_name")) if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            config.note(("model_list", index), "a deployment without a `model_name` is left out", "give it one")
            groups.left_out.append((config.place(("model_list", index)), "?", "it has no `model_name`"))
        elif "*" in name:
            wildcards.setdefault(name, []).append(index)
        else:
            _add(config, groups, drafts.setdefault(name, []), index, keys, name, None)
    used = _expand(config, groups, drafts, wildcards, keys, wanted)
    _tell_wildcards(config, groups, wildcards, used)
    for name, group in drafts.items():
        if group:
            groups.layers[name] = _layers(config, groups, name, group)
    _tell_shared_engines(config, groups)
    return groups


def _add(
    config: Config, groups: Groups, group: list[Draft], index: int, keys: Keys, name: str, captured: str | None
) -> None:
    try:
        group.append(draft(config, index, keys, captured))
    except Mistake as mistake:
        hint = f" ({mistake.hint})" if mistake.hint else ""
        config.note(("model_list", index), f"a deployment of `{name}` is left out: {mistake.message}", mistake.hint)
        groups.left_out.append((config.place(("model_list", index)), name, f"{mistake.message}{hint}"))


def _expand(
    config: Config,
    groups: Groups,
    drafts: dict[str, list[Draft]],
    wildcards: Mapping[str, list[int]],
    keys: Keys,
    wanted: Iterable[str],
) -> dict[str, list[str]]:
    """Adds the wanted names that a wildcard matches; by wildcard, which those were."""
    used: dict[str, list[str]] = {}
    # LiteLLM asks the most specific wildcard first.
    patterns = sorted(wildcards, key=lambda one: (-len(one.replace("*", "")), one))
    for name in wanted:
        matches = ((pattern, _captured(pattern, name)) for pattern in patterns)
        pattern, captured = next(((one, found) for one, found in matches if found is not None), ("", None))
        if name in drafts or captured is None:
            continue
        used.setdefault(pattern, []).append(name)
        drafts[name] = []
        for index in wildcards[pattern]:
            _add(config, groups, drafts[name], index, keys, name, captured)
    return used


def _captured(pattern: str, name: str) -> str | None:
    match = re.fullmatch("(.+)".join(re.escape(part) for part in pattern.split("*")), name)
    return match[1] if match else None


def _tell_wildcards(
    config: Config, groups: Groups, wildcards: Mapping[str, list[int]], used: Mapping[str, list[str]]
) -> None:
    for pattern, indices in wildcards.items():
        for index in indices:
            loc: Loc = ("model_list", index)
            hint = "name what callers use, once for each: `--model NAME`"
            if used.get(pattern):
                names = ", ".join(f"`{name}`" for name in used[pattern])
                config.note((*loc, "model_name"), f"wildcard `{pattern}` is imported for {names} only", hint)
                continue
            config.note(loc, f"wildcard `{pattern}` is left out: a policy names what may be asked for", hint)
            groups.left_out.append((config.place(loc), pattern, "wildcards are not supported"))


def _tell_shared_engines(config: Config, groups: Groups) -> None:
    """An engine behind two targets has its GPUs in both."""
    first: dict[str, str] = {}
    for name, target in groups.targets.items():
        for url in target.urls if target.lane is Lane.DEDICATED else ():
            other = first.setdefault(url, name)
            if other != name:
                hint = (
                    "give one of them `gpus`, or its GPU-hours count twice; an adapter is `{target: ..., model: ...}`"
                )
                message = f"targets `{other}` and `{name}` are both at `{url}`"
                config.notes.append(Note(*target.place, message, hint))


def _layers(config: Config, groups: Groups, name: str, group: list[Draft]) -> Layers:
    layers: list[tuple[str, ...]] = []
    listed: set[str] = set()
    for order in sorted({one.order for one in group}):
        layer = _replicas(config, [one for one in group if one.order == order])
        layer.sort(key=lambda one: one.lane is Lane.SHARED)
        names = []
        for one in layer:
            target = _register(groups, one)
            if target in listed:
                message = f"the same deployment of `{name}` twice"
                config.notes.append(Note(*one.place, message, "LiteLLM gives it two shares; it is listed once"))
                continue
            listed.add(target)
            names.append(target)
        layers.append(tuple(names))
    return tuple(layer for layer in layers if layer)


def _replicas(config: Config, layer: Sequence[Draft]) -> list[Draft]:
    """The layer with the engines that differ in their address only made one."""
    merged: dict[Draft, Draft] = {}
    for one in layer:
        key = replace(one, urls=()) if one.lane is Lane.DEDICATED else one
        other = merged.setdefault(key, one)
        if other is one:
            continue
        if one.lane is Lane.SHARED or one.urls[0] in other.urls:
            message = "the same deployment twice"
            config.notes.append(Note(*one.place, message, "LiteLLM gives it two shares; it is listed once"))
            continue
        merged[key] = replace(other, urls=(*other.urls, *one.urls))
    return list(merged.values())


def _register(groups: Groups, one: Draft) -> str:
    """The name of the target for `one`: that of its equal, or a new one."""
    if not one.limited and one in groups.names:
        return groups.names[one]
    host = (urlsplit(one.urls[0]).hostname or "").partition(".")[0] if one.urls else ""
    details = [detail for detail in (one.region or "", host) if detail and "$" not in detail and not detail.isdigit()]
    numbered = (f"{one.name}-{number}" for number in count(2))
    names = chain((one.name,), (f"{one.name}-{detail}" for detail in details), numbered)
    name = next(name for name in names if name not in groups.targets and _is_name(name))
    groups.targets[name] = one
    groups.names.setdefault(one, name)
    return name


def _is_name(name: str) -> bool:
    try:
        words.name(name)
    except Mistake:
        return False
    return True
