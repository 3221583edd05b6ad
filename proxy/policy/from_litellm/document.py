"""Reads a LiteLLM config the way LiteLLM does, and keeps account of what became of each of its keys.

Theory of operation
-------------------
LiteLLM loads its config with PyYAML's safe loader: YAML 1.1, with anchors and merge keys, of two equal keys the last.
The same is done here, node by node, so that every key keeps its place. Whoever imports a part of the config either
*takes* a key, which says that the policy expresses it, or *notes* it, which says why the policy does not. `leftovers`
finds the keys that are neither, so that none can get lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from proxy.policy.document import Loc, Place
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import SourceFile
from proxy.policy.syntax import explain_syntax

MAX_NODES = 200_000  # aliases make a small text large
MAX_DEPTH = 40

_CONTAINERS = frozenset({
    "environment_variables", "general_settings", "litellm_params", "litellm_settings", "model_info", "router_settings",
})  # fmt: skip
"""Mappings whose keys are each a matter of their own."""

_MERGE = "tag:yaml.org,2002:merge"

Json = Any
"""Mappings with text keys, lists, and what YAML 1.1 makes of scalars."""


class Note(NamedTuple):
    """What the importer has to say about a place in the config; `hint` is what to do about it."""

    path: str
    line: int
    column: int
    message: str
    hint: str

    def __str__(self) -> str:
        remedy = f" (hint: {self.hint})" if self.hint else ""
        text = f"{self.path}:{self.line}:{self.column}: {self.message}{remedy}"
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


@dataclass(slots=True)
class Config:
    """The config as plain values. `notes` are what the importer has to say, in the order in which it was found."""

    path: str
    root: dict[str, Json]
    places: dict[Loc, Place]
    notes: list[Note]
    _settled: set[Loc] = field(default_factory=set)

    def place(self, loc: Loc) -> Place:
        """The place of the key or item at `loc`, or of the nearest thing around it that has one."""
        while loc and loc not in self.places:
            loc = loc[:-1]
        return self.places.get(loc) or Place(self.path, 1, 1)

    def get(self, loc: Loc) -> Json:
        """The value at `loc`, or None."""
        value: Json = self.root
        for step in loc:
            if isinstance(value, dict):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def take(self, loc: Loc) -> Json:
        """The value at `loc`, which the policy expresses from here on, with all that is in it."""
        self._settled.add(loc)
        return self.get(loc)

    def note(self, loc: Loc, message: str, hint: str = "") -> None:
        """Say something about the key at `loc`, which is settled thereby; `()` is the config as a whole."""
        if loc:
            self._settled.add(loc)
        self.notes.append(Note(*self.place(loc), message, hint))

    def leftovers(self) -> Iterator[Loc]:
        """The outermost keys and items that were neither taken nor noted, in the order of the file."""
        around = {loc[:end] for loc in self._settled for end in range(len(loc))}
        return self._leftovers((), self.root, around)

    def _leftovers(self, loc: Loc, value: Json, around: set[Loc]) -> Iterator[Loc]:
        if loc in self._settled:
            return
        if loc and loc not in around and not (isinstance(value, dict) and loc[-1] in _CONTAINERS):
            yield loc
            return
        steps = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        for step, inner in steps:
            yield from self._leftovers((*loc, step), inner, around)


def read_config(file: SourceFile) -> Config:
    """The config in `file`. Raises `PolicyError` when it is not YAML, or is no LiteLLM config."""
    try:
        _check_depth(file)
        node = yaml.compose(file.text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise PolicyError((explain_syntax(file, error),)) from None
    builder = _Builder(file.path)
    root = builder.mapping((), node, 0) if isinstance(node, yaml.MappingNode) else {}
    if not isinstance(root.get("model_list"), list):
        hint = "name the file that LiteLLM is started with: `litellm --config FILE`"
        raise PolicyError((Problem(file.path, 0, 0, "not a LiteLLM config: it has no `model_list`", hint),))
    return Config(file.path, root, builder.places, builder.notes)


def _check_depth(file: SourceFile) -> None:
    """Composing recurses; a text that is nested beyond reason is refused before that."""
    depth = 0
    for event in yaml.parse(file.text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH and event.start_mark is not None:
            mark = event.start_mark
            raise PolicyError((_too_large(Place(file.path, mark.line + 1, mark.column + 1)),))


def _too_large(place: Place) -> Problem:
    return Problem(*place, "nested too deeply, or too large with its aliases written out", "is this the config?")


class _Builder:
    """Turns nodes into values, and writes down where they stand."""

    def __init__(self, path: str) -> None:
        self.places: dict[Loc, Place] = {}
        self.notes: list[Note] = []
        self._path = path
        self._scalars = yaml.constructor.SafeConstructor()
        self._visits = 0

    def mapping(self, loc: Loc, node: yaml.MappingNode, depth: int) -> dict[str, Json]:
        built: dict[str, Json] = {}
        for key, value in self._pairs(node, depth):
            name = _word(key)
            place = self._place(key)
            if name in built:
                first = self.places[*loc, name].line
                hint = f"LiteLLM takes the last one, and so does the import; the first is on line {first}"
                self.notes.append(Note(*place, f"`{name}` is given twice", hint))
            self.places[*loc, name] = place
            built[name] = self._value((*loc, name), value, depth + 1)
        return built

    def _value(self, loc: Loc, node: yaml.Node, depth: int) -> Json:
        self._visit(node, depth)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(loc, node, depth)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.places[*loc, index] = self._place(item)
            return [self._value((*loc, index), item, depth + 1) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # as its parts raise for odd tags
            message = f"a value that a safe YAML loader cannot read, tagged `{node.tag}`"
            raise PolicyError((Problem(*self._place(node), message, "LiteLLM would not start either"),)) from None

    def _pairs(self, node: yaml.MappingNode, depth: int) -> list[tuple[yaml.Node, yaml.Node]]:
        """The pairs of a mapping: those of its merge keys first, and only where it has none of its own."""
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        named = {_word(key) for key, _ in own}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            for source in _sources(value) if key.tag == _MERGE else ():
                self._visit(source, depth)
                for pair in self._pairs(source, depth + 1):
                    merged.setdefault(_word(pair[0]), pair)
        return [pair for name, pair in merged.items() if name not in named] + own

    def _visit(self, node: yaml.Node, depth: int) -> None:
        self._visits += 1
        if self._visits > MAX_NODES or depth > MAX_DEPTH:
            raise PolicyError((_too_large(self._place(node)),))

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._path, node.start_mark.line + 1, node.start_mark.column + 1)


def _word(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"


def _sources(value: yaml.Node) -> list[yaml.MappingNode]:
    nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
    return [node for node in nodes if isinstance(node, yaml.MappingNode)]
