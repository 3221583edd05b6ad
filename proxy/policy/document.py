"""Turns YAML text into plain values that remember where they stand.

Theory of operation
-------------------
libyaml's event stream is walked once. The place of every key and value is noted under its *loc*, the path from the root
(`("targets", "local", "url")`). Several files become one tree, in the order of their names: sections of named things
are united, and two lists are joined: `routes`, and the `keys` of a tenant, which may so be kept in a Secret of their
own. A lone key is a list of one.

Plain scalars follow YAML 1.2's core schema, so `no` and `on` are words and `012` is twelve. Refused, because they make
one text mean two things: duplicate keys, anchors, aliases, merge keys, tags, several documents, empty values.

A value that holds `${NAME}` becomes an `Interpolated` (`variables.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from proxy.policy.checks import Check
from proxy.policy.problem import Problem
from proxy.policy.source import SourceFile
from proxy.policy.syntax import explain_syntax
from proxy.policy.variables import Interpolated, interpolate, shown

Loc = tuple[str | int, ...]

MAX_DEPTH = 12  # a policy is five deep
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}


class Place(NamedTuple):
    """Where something stands; `line` and `column` count from 1."""

    path: str
    line: int
    column: int


@dataclass(slots=True)
class Document:
    """The united tree.

    `broken` are the locs that already have a problem and need no second one; `variables` are the environment variables
    that were read, with their values.
    """

    root: dict[str, Any] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)
    broken: set[Loc] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def place(self, loc: Loc, *, key: bool = False) -> Place:
        """The place of the value at `loc`, or of its key, or else of the nearest thing around it that has one."""
        while loc:
            first, second = (self.keys, self.values) if key else (self.values, self.keys)
            found = first.get(loc) or second.get(loc)
            if found:
                return found
            loc, key = loc[:-1], True
        return self.values[()]


def read_document(files: tuple[SourceFile, ...], env: Mapping[str, str]) -> Document:
    """Parse and unite `files`; mistakes are in `Document.problems`, and `broken` holds `()` if the tree is unusable."""
    document = Document()
    document.values[()] = Place(files[0].path, 1, 1)
    for file in files:
        _FileReader(file, env, document).read()
    return document


class _FileReader:
    """Walks the events of one file into the document."""

    def __init__(self, file: SourceFile, env: Mapping[str, str], document: Document) -> None:
        self._file = file
        self._env = env
        self._document = document
        self._events: Iterator[yaml.Event] = iter(())
        self._own_keys: dict[Loc, Place] = {}

    def read(self) -> None:
        try:
            # Loading is safe by construction: only events are read, no object is ever built from a tag.
            self._events = iter(list(yaml.parse(self._file.text, Loader=yaml.CSafeLoader)))
        except yaml.YAMLError as error:
            self._document.problems.append(explain_syntax(self._file, error))
            self._document.broken.add(())
            return
        next(self._events)  # stream start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._problem(None, "file is empty", "begin with `version: 1`")
            self._document.broken.add(())
            return
        first = next(self._events)
        if isinstance(first, yaml.MappingStartEvent):
            if not self._document.keys:
                self._document.values[()] = self._place_of(first)
            self._reject_decoration(first)
            self._unite(self._mapping((), 0))
        else:
            self._problem(first, "a policy is a mapping of sections", "begin with `version: 1` and `targets:`")
            self._document.broken.add(())
            return
        next(self._events)  # document end
        another = next(self._events)
        if not isinstance(another, yaml.StreamEndEvent):
            self._broken(another, (), "a second document begins", "one document per file; remove the `---` line")

    def _unite(self, sections: dict[str, Any]) -> None:
        root = self._document.root
        for name, section in sections.items():
            present = root.get(name)
            if name == "tenants" and isinstance(present, dict) and isinstance(section, dict):
                _unite_tenants(present, section)
            elif isinstance(present, dict) and isinstance(section, dict):
                present.update(section)
            elif isinstance(present, list) and isinstance(section, list):
                present.extend(section)
            elif root.setdefault(name, section) != section:
                place = self._document.values[name,]
                hint = "every file may repeat it, alike; or leave it to one of them"
                self._document.problems.append(
                    Problem(*place, f"`{name}` differs from an earlier file's", hint, Check.DUPLICATE)
                )

    def _value(self, event: yaml.Event, loc: Loc, depth: int) -> Any:
        self._document.values[loc] = self._place_of(event)
        self._reject_decoration(event)
        if isinstance(event, yaml.AliasEvent):
            self._broken(event, loc, "aliases are not supported", "write the value out")
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, loc)
        if depth >= MAX_DEPTH:
            self._broken(event, loc, "nested too deeply", "a policy needs five levels at most")
            self._skip(event)
            return None
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loc, depth)
        return self._sequence(loc, depth)

    def _mapping(self, loc: Loc, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._broken(event, loc, "a key must be a word", "mind the indentation")
                self._skip(event)
                self._skip(next(self._events))
                continue
            name = str(event.value)
            at: Loc = (*loc, name)
            if self._is_duplicate(event, at):
                self._skip(next(self._events))
                continue
            self._own_keys[at] = place = self._place_of(event)
            self._document.keys.setdefault(at, place)
            read = self._keys_of_a_tenant if _holds_keys(at) else self._value
            value = read(next(self._events), at, depth + 1)
            if value is not None:
                mapping[name] = value
        return mapping

    def _keys_of_a_tenant(self, event: yaml.Event, at: Loc, depth: int) -> list[Any] | None:
        """The list at `at`, or what stands there alone as a list of one."""
        if isinstance(event, yaml.SequenceStartEvent):
            value = self._value(event, at, depth)
            return value if isinstance(value, list) else None
        self._document.values[at] = self._place_of(event)
        lone = self._value(event, (*at, self._count_before(at)), depth)
        if lone is None:
            self._document.broken.add(at)
            return None
        return [lone]

    def _count_before(self, at: Loc) -> int:
        """How many items earlier files have given to the list at `at`."""
        found: Any = self._document.root
        for part in at:
            found = found.get(part) if isinstance(found, dict) else None
        return len(found) if isinstance(found, list) else 0

    def _is_duplicate(self, event: yaml.ScalarEvent, at: Loc) -> bool:
        if event.value == "<<":
            self._broken(event, at, "merge keys are not supported", "write the keys out")
            return True
        own = self._own_keys.get(at)
        if own is not None:
            hint = f"remove one; the first is on line {own.line}"
            self._problem(event, f"{shown(event.value)} is given twice", hint, Check.DUPLICATE)
            return True
        first = self._document.keys.get(at)
        if first is None or _may_be_shared(at):
            return False
        hint = f"remove or rename one; the first is at {first.path}:{first.line}"
        self._problem(event, f"{shown(event.value)} is defined in two files", hint, Check.DUPLICATE)
        return True

    def _sequence(self, loc: Loc, depth: int) -> list[Any]:
        items: list[Any] = []
        index = self._count_before(loc) if loc == ("routes",) or _holds_keys(loc) else 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            value = self._value(event, (*loc, index), depth + 1)
            items.append(value)
            index += 1
        return items

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc) -> Any:
        text = event.value
        if "${" in text:
            return self._interpolate(event, loc)
        if event.style:  # quoted or a block: always text
            return str(text)
        if text in _NULLS:
            name = shown(loc[-1]) if isinstance(loc[-1], str) else "this item"
            self._broken(event, loc, f"{name} has no value", "give it a value, or remove the line")
            return None
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        return _BOOLEANS.get(text, str(text))

    def _interpolate(self, event: yaml.ScalarEvent, loc: Loc) -> Interpolated:
        value, mistakes = interpolate(str(event.value), self._env)
        self._document.variables.update(value.variables)
        for mistake in mistakes:
            self._broken(event, loc, mistake.message, mistake.hint, Check.VARIABLE)
        return value

    def _reject_decoration(self, event: yaml.Event) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor and not isinstance(event, yaml.AliasEvent):
            self._problem(
                event, f"anchors are not supported: {shown(f'&{anchor}')}", "write the value out where it is needed"
            )
        if tag:
            self._problem(event, "tags are not supported", "remove the word that begins with `!`")

    def _skip(self, event: yaml.Event) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth <= 0:
                return
            event = next(self._events)

    def _place_of(self, event: yaml.Event | None) -> Place:
        mark = event.start_mark if event else None
        return Place(self._file.path, mark.line + 1, mark.column + 1) if mark else Place(self._file.path, 0, 0)

    def _problem(self, event: yaml.Event | None, message: str, hint: str, check: Check = Check.SYNTAX) -> None:
        self._document.problems.append(Problem(*self._place_of(event), message, hint, check))

    def _broken(self, event: yaml.Event, loc: Loc, message: str, hint: str, check: Check = Check.SYNTAX) -> None:
        self._document.broken.add(loc)
        self._problem(event, message, hint, check)


def _may_be_shared(at: Loc) -> bool:
    """Whether several files may have the key at `at`: every section but `auth`, and every tenant, for its keys."""
    return at != ("auth",) if len(at) == 1 else at[0] == "tenants" and (len(at) == 2 or _holds_keys(at))


def _holds_keys(at: Loc) -> bool:
    return len(at) == 3 and at[0] == "tenants" and at[2] == "keys"


def _unite_tenants(present: dict[str, Any], added: dict[str, Any]) -> None:
    """Put the tenants of a later file to those of earlier ones: what both say of one tenant is nothing but its keys."""
    for name, tenant in added.items():
        known = present.get(name)
        if not isinstance(known, dict) or not isinstance(tenant, dict):
            present.setdefault(name, tenant)
            continue
        keys = [*known.get("keys", ()), *tenant.get("keys", ())]
        known.update(tenant)
        if "keys" in known:
            known["keys"] = keys
