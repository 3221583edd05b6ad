"""From model groups to models and routes: every group's targets in LiteLLM's order, and routes that keep that order.

Theory of operation
-------------------
A fallback becomes a further target of the model. LiteLLM turns to it after a failure only, and so must the policy: a
route that prefers the cheapest would send everything to a cheaper stand-in. `prefer: dedicated` and `prefer: shared`
keep the listed order within a lane, so each model is put under a route whose preference keeps its whole list in order.
`cost` and `latency` are LiteLLM's strategies of that name; there they choose within a group, so they are kept for
models whose targets are all equals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from proxy.policy import words
from proxy.policy.from_litellm.document import Config
from proxy.policy.from_litellm.fallbacks import Fallbacks, read_aliases, read_special
from proxy.policy.from_litellm.groups import Groups, Layers
from proxy.policy.model import Lane, Prefer
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown

MOST_FAILOVERS = 5
_STRATEGIES = {"cost-based-routing": Prefer.COST, "latency-based-routing": Prefer.LATENCY}
_ROUTE_NAMES = {
    Prefer.DEDICATED: "own-gpus-first",
    Prefer.SHARED: "apis-first",
    Prefer.COST: "cheapest-first",
    Prefer.LATENCY: "fastest-first",
}


@dataclass(slots=True, kw_only=True)
class ModelOut:
    """What apps ask for. `layers` are its targets, those of one layer equals; `remarks` become comments.

    The first `own` targets are its own, the rest are those of its fallbacks.
    """

    name: str
    layers: Layers
    own: int
    remarks: list[str] = field(default_factory=list)

    @property
    def targets(self) -> tuple[str, ...]:
        """All of them in order, each once."""
        return tuple(dict.fromkeys(name for layer in self.layers for name in layer))


@dataclass(slots=True, kw_only=True)
class RouteOut:
    """A route; no `models` and no `tag` is the last one."""

    name: str
    prefer: Prefer
    max_failovers: int
    models: tuple[str, ...] = ()
    tag: str | None = None
    remarks: tuple[str, ...] = ()


def read_models(config: Config, groups: Groups, fallbacks: Fallbacks) -> list[ModelOut]:
    """The models in the order of the config, then the aliases."""
    renamed: dict[str, str] = {}
    models: list[ModelOut] = []
    for name in groups.layers:
        public = _public_name(config, name, {*groups.layers, *renamed.values()})
        renamed[name] = public
        own = sum(map(len, groups.layers[name]))
        model = ModelOut(name=public, layers=_with_fallbacks(groups, fallbacks, name), own=own)
        if public != name:
            model.remarks.append(f"LiteLLM's `{name}`: callers have to ask for `{public}`")
        models.append(model)
    _note_unknown(config, groups, fallbacks)
    _special(config, groups, models, renamed)
    return models + _aliases(config, groups, models, renamed)


def read_routes(config: Config, groups: Groups, models: Sequence[ModelOut]) -> list[RouteOut]:
    """The routes that keep each model's order; the last takes every model."""
    base = _base(config, groups)
    by_preference: dict[Prefer, list[ModelOut]] = {}
    for model in models:
        suited = _suited(model, groups, base)
        if not suited:
            model.remarks.append("LiteLLM alternates lanes here; a route tries one lane first, then the other")
        chosen = base if base in suited else _lanes(model, groups)[0]
        by_preference.setdefault(chosen, []).append(model)
    if base not in by_preference:
        base = max(sorted(by_preference), key=lambda prefer: len(by_preference[prefer]), default=base)
    routes = [*_tag_routes(config, groups, base, models)]
    for prefer in sorted(by_preference.keys() - {base}):
        routes.append(_route(_ROUTE_NAMES[prefer], prefer, by_preference[prefer], narrow=True))
    routes.append(_route("default", base, by_preference.get(base, []), narrow=False))
    return routes


def _base(config: Config, groups: Groups) -> Prefer:
    """The preference for LiteLLM's strategy."""
    loc = ("router_settings", "routing_strategy")
    strategy = config.take(loc)
    if isinstance(strategy, str) and strategy in _STRATEGIES:
        return _STRATEGIES[strategy]
    has_own = any(target.lane is Lane.DEDICATED for target in groups.targets.values())
    base = Prefer.DEDICATED if has_own else Prefer.SHARED
    if strategy is not None:
        order = "your GPUs, then the targets" if has_own else "the targets"
        hint = (
            "`prefer: cost` and `prefer: latency` are the other choices; replicas of one target share its load anyway"
        )
        config.note(loc, f"{shown(strategy)} becomes `prefer: {base}`: {order} as they are listed", hint)
    return base


def _route(name: str, prefer: Prefer, models: Sequence[ModelOut], *, narrow: bool) -> RouteOut:
    names = tuple(model.name for model in models) if narrow else ()
    return RouteOut(name=name, prefer=prefer, max_failovers=_failovers(models), models=names)


def _failovers(models: Sequence[ModelOut]) -> int:
    longest = max((len(model.targets) for model in models), default=1)
    return min(MOST_FAILOVERS, max(1, longest - 1))


def _with_fallbacks(groups: Groups, fallbacks: Fallbacks, name: str) -> Layers:
    layers = list(groups.layers[name])
    seen = {target for layer in layers for target in layer}
    for other in fallbacks.of(name):
        for layer in groups.layers.get(other, ()):
            fresh = tuple(target for target in layer if target not in seen)
            seen.update(fresh)
            layers += [fresh] if fresh else []
    return tuple(layers)


def _lanes(model: ModelOut, groups: Groups) -> list[Prefer]:
    """The lane of each target in order, as the preference for it."""
    lanes = (groups.targets[name].lane for name in model.targets)
    return [Prefer.DEDICATED if lane is Lane.DEDICATED else Prefer.SHARED for lane in lanes]


def _suited(model: ModelOut, groups: Groups, base: Prefer) -> frozenset[Prefer]:
    """The preferences that keep the model's order; none when its lanes alternate."""
    lanes = _lanes(model, groups)
    if len(lanes) == 1:
        return frozenset(Prefer)
    if len(model.layers) == 1 and base in _STRATEGIES.values():
        return frozenset({base})
    changes = sum(one is not other for one, other in pairwise(lanes))
    if changes == 0:
        return frozenset({Prefer.DEDICATED, Prefer.SHARED})
    return frozenset({lanes[0]} if changes == 1 else ())


def _tag_routes(config: Config, groups: Groups, base: Prefer, models: Sequence[ModelOut]) -> list[RouteOut]:
    """With tag filtering on, a request with a tag goes to the targets that have it."""
    loc = ("router_settings", "enable_tag_filtering")
    if config.take(loc) is not True:
        return []
    tags = dict.fromkeys(tag for target in groups.targets.values() for tag in target.tags)
    config.note(loc, "tags become routes", "callers send them in `x-spillway-tags`, or keys and tenants have them")
    remark = "one route for each tag: LiteLLM takes any of a request's tags, the first of these routes wins"
    routes: list[RouteOut] = []
    for tag in tags:
        if tag == "default":
            hint = "`require: {tags: [default]}` in the last route, if every model has such a target"
            config.note(loc, "the tag `default`, for requests without a tag, is not imported", hint)
            continue
        tagged = [model for model in models if any(tag in groups.targets[name].tags for name in model.targets)]
        if tagged:
            route = _route(f"tag-{tag}"[:128], base, tagged, narrow=len(tagged) < len(models))
            route.tag, route.remarks = tag, () if routes else (remark,)
            routes.append(route)
    return routes


def _note_unknown(config: Config, groups: Groups, fallbacks: Fallbacks) -> None:
    for name, chain in fallbacks.chains.items():
        place = fallbacks.places[name]
        if name != "*" and name not in groups.layers:
            config.note(place, f"fallbacks of `{name}` are not imported: it is not in the policy", "")
        for other in chain:
            if other not in groups.layers:
                config.note(place, f"`{other}` is no fallback of `{name}`: it is not in the policy", "")
        if any(other in groups.layers for other in chain):
            hint = "list only targets of the same quality; a route for sensitive requests can `require` what it needs"
            config.note(place, "fallbacks become further targets of the model, in their order", hint)


def _special(config: Config, groups: Groups, models: Sequence[ModelOut], renamed: Mapping[str, str]) -> None:
    by_name = {model.name: model for model in models}
    long = read_special(config, "context_window_fallbacks")
    for name, place in long.places.items():
        chain = ", ".join(long.chains[name])
        model = by_name.get(renamed.get(name, ""))
        larger = _larger(groups, model, long.chains[name]) if model else ()
        if model and larger:
            model.layers = (*model.layers, larger)
            hint = "`context_window` keeps long prompts off the others; these also take what fails there"
            config.note(place, f"the targets of {chain} become further targets of `{name}`, for long prompts", hint)
            continue
        hint = "give the smaller targets a `context_window`, and list larger ones of the same quality after them"
        config.note(place, f"context window fallbacks of `{name}` to {chain} are not imported", hint)
        if model:
            model.remarks.append(f"todo: long prompts went to {chain}; {hint}")
    policy = read_special(config, "content_policy_fallbacks")
    for name, place in policy.places.items():
        chain = ", ".join(policy.chains[name])
        hint = "what a provider refuses for its content is not asked of another; the caller gets the refusal"
        config.note(place, f"content policy fallbacks of `{name}` to {chain} have no equivalent", hint)


def _larger(groups: Groups, model: ModelOut, chain: Sequence[str]) -> tuple[str, ...]:
    """The targets of `chain` for prompts too long for the model's own; nothing if one of those claims no window."""
    if any(groups.targets[name].context_window is None for name in model.targets):
        return ()
    targets = (name for other in chain for layer in groups.layers.get(other, ()) for name in layer)
    return tuple(name for name in dict.fromkeys(targets) if name not in model.targets)


def _aliases(config: Config, groups: Groups, models: Sequence[ModelOut], renamed: Mapping[str, str]) -> list[ModelOut]:
    by_name = {model.name: model for model in models}
    aliases: list[ModelOut] = []
    for alias, (meant, loc) in read_aliases(config).items():
        model = by_name.get(renamed.get(meant, ""))
        if model is None:
            config.note(loc, f"alias `{alias}` is left out: `{meant}` is not in the policy", "")
        elif alias in groups.layers or alias in by_name:
            config.note(loc, f"alias `{alias}` is left out: a model has that name", "LiteLLM prefers the alias")
        else:
            public = _public_name(config, alias, {*by_name, *(one.name for one in aliases)})
            aliases.append(ModelOut(name=public, layers=model.layers, own=model.own, remarks=[f"an alias of {meant}"]))
    return aliases


def _public_name(config: Config, name: str, taken: set[str]) -> str:
    """`name`, or one like it that may stand in a policy."""
    try:
        return words.name(name)
    except Mistake as mistake:
        plain = "".join(letter if words.NAME.fullmatch(letter) else "-" for letter in name)[:100].strip("-") or "model"
        plain = f"{plain}-model" if plain in words.RESERVED else plain
        public = next(one for one in (plain, *(f"{plain}-{n}" for n in range(2, 100_000))) if one not in taken)
        places = (loc for loc in config.places if loc[-1:] == ("model_name",) and config.get(loc) == name)
        config.note(next(places, ()), f"{mistake.message}, so callers have to ask for `{public}`", mistake.hint)
        return public
