"""What a LiteLLM config says about groups of deployments: who stands in for whom, and by what other names they go.

Theory of operation
-------------------
`fallbacks` may stand under `router_settings` or `litellm_settings`; the router's win, whole. A model that has none of
its own falls back on the generic ones (`*`, `default_fallbacks`). A stand-in's own fallbacks follow it, as LiteLLM's
do, up to `max_fallbacks` deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.policy.document import Loc
from proxy.policy.from_litellm.document import Config, Json

MAX_FALLBACKS = 5  # LiteLLM's own default
_SECTIONS = ("router_settings", "litellm_settings")
_ALIASES = (("router_settings", "model_group_alias"), ("litellm_settings", "model_group_alias"))


@dataclass(slots=True)
class Fallbacks:
    """Stand-ins by the name of the model; `*` stands for every model that has none of its own."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, Loc] = field(default_factory=dict)
    depth: int = MAX_FALLBACKS

    def of(self, name: str) -> list[str]:
        """Who stands in for `name`, the nearest first, each once."""
        found: list[str] = []
        self._follow(name, found, {name}, self.depth)
        return found

    def names(self) -> Iterator[str]:
        """Every model that is named, on either side."""
        for name, chain in self.chains.items():
            yield from (() if name == "*" else (name,))
            yield from chain

    def _follow(self, name: str, found: list[str], seen: set[str], depth: int) -> None:
        for other in self.chains.get(name, self.chains.get("*", [])) if depth else ():
            if other not in seen:
                seen.add(other)
                found.append(other)
                self._follow(other, found, seen, depth - 1)


def read_fallbacks(config: Config) -> Fallbacks:
    """The fallbacks for any failure."""
    fallbacks = Fallbacks()
    for section in _SECTIONS:
        loc = (section, "max_fallbacks")
        depth = config.get(loc)
        if isinstance(depth, int) and not isinstance(depth, bool) and fallbacks.depth == MAX_FALLBACKS:
            config.take(loc)
            fallbacks.depth = max(0, depth)
    _read_chains(config, "fallbacks", fallbacks)
    for section in _SECTIONS:
        loc = (section, "default_fallbacks")
        names = _names(config, loc, config.get(loc))
        if names and "*" not in fallbacks.chains:
            config.take(loc)
            fallbacks.chains["*"], fallbacks.places["*"] = names, loc
        elif names:
            config.note(loc, "`default_fallbacks` has no effect: there are generic ones already", "")
    return fallbacks


def read_special(config: Config, key: str) -> Fallbacks:
    """The fallbacks for one kind of failure: `context_window_fallbacks` or `content_policy_fallbacks`."""
    fallbacks = Fallbacks()
    _read_chains(config, key, fallbacks)
    return fallbacks


def read_aliases(config: Config) -> dict[str, tuple[str, Loc]]:
    """Other names of models: alias -> (model, where it stands)."""
    aliases: dict[str, tuple[str, Loc]] = {}
    for loc in (*_ALIASES, ("litellm_settings", "model_alias_map")):
        written = config.get(loc)
        for alias, meant in written.items() if isinstance(written, dict) else ():
            at = (*loc, alias)
            model = meant.get("model") if isinstance(meant, dict) else meant
            if not isinstance(model, str) or not alias:
                config.note(at, f"alias `{alias}` names no model", "")
                continue
            config.take(at)
            if isinstance(meant, dict) and meant.get("hidden"):
                config.note((*at, "hidden"), f"`{alias}` will be listed by /v1/models", "no name is hidden there")
            aliases.setdefault(alias, (model, at))
    return aliases


def _read_chains(config: Config, key: str, fallbacks: Fallbacks) -> None:
    for section in _SECTIONS:
        loc = (section, key)
        written = config.get(loc)
        if not written:
            continue
        if fallbacks.places:
            config.note(loc, f"`{section}.{key}` has no effect: `router_settings.{key}` is there", "")
            continue
        for at, name, others in _pairs(loc, written):
            names = _names(config, at, others)
            config.take(at)
            if names:
                fallbacks.chains.setdefault(name, names)
                fallbacks.places.setdefault(name, at)


def _pairs(loc: Loc, written: Json) -> Iterator[tuple[Loc, str, Json]]:
    """(where, model, its stand-ins) of a list of mappings, or of one mapping; a bare name stands in for all."""
    if isinstance(written, dict):
        yield from (((*loc, name), name, others) for name, others in written.items())
    for index, item in enumerate(written if isinstance(written, list) else ()):
        if isinstance(item, dict):
            yield from (((*loc, index, name), name, others) for name, others in item.items())
        elif isinstance(item, str):
            yield (*loc, index), "*", [item]


def _names(config: Config, loc: Loc, written: Json) -> list[str]:
    """The stand-ins; those with parameters of their own lose them, which is said."""
    names: list[str] = []
    items = written if isinstance(written, list) else [written] if isinstance(written, str | dict) else []
    for index, item in enumerate(items):
        name = item.get("model") if isinstance(item, dict) else item
        if isinstance(name, str) and name:
            names.append(name)
        if isinstance(item, dict) and (len(item) > 1 or not name):
            at = (*loc, index)
            config.note(at, "a fallback's own parameters are not imported", "the request goes there as it came")
    return names
