"""Reads plain values into frozen dataclasses, noting every mistake with its place instead of stopping at the first.

Theory of operation
-------------------
A dataclass whose fields are made by `key()` is a *shape*: each field carries the reader of its value. Readers come in
four kinds: `one` wraps a function that returns the value or raises `Mistake`; `listed` and `shaped` read the members
of a list and of a mapping; `ruled` reads a rule with its mode. A reader notes mistakes in the findings and answers
`BROKEN`, and whatever holds a broken part is broken too, up to the item (a target, a route) that `Findings.drop` then
takes out of the game. What a reader expects can be asked of it, so the JSON schema is made from the same shapes.

Why not pydantic: importing it took longer than all the rest of a start (0.4 s against 0.1 s), and the
messages, places and remedies would have to be written here anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Mode
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean, one_of

Reader = Callable[[object, Loc, Findings], Any]
BROKEN = object()
MAX_KEYS_IN_A_HINT = 16


def key(read: Reader, *, default: Any = MISSING, hint: str = "") -> Any:
    """A key of a shape: required unless it has a default; `hint` says what to write when it is missing."""
    return field(default=default, metadata={"read": read, "hint": hint})


@dataclass(frozen=True, slots=True)
class Ruled:
    """The value of a rule, and whether it binds."""

    value: Any
    mode: Mode | None = None


_RULE_KEYS = {"is": None, "mode": None}


class One:
    """A single value, as `parse` returns it."""

    __slots__ = ("parse",)

    def __init__(self, parse: Callable[[object], Any]) -> None:
        self.parse = parse

    def __call__(self, value: object, loc: Loc, findings: Findings) -> Any:
        try:
            return self.parse(value)
        except Mistake as mistake:
            findings.mistake(loc, mistake)
            return BROKEN


class Listed:
    """A list of members, as a tuple; with `or_one`, a lone value stands for a list of one.

    An empty list is refused where leaving the key out would mean the opposite: no member against every one.
    """

    __slots__ = ("may_be_empty", "member", "or_one")

    def __init__(self, member: Reader, *, or_one: bool = False, may_be_empty: bool = False) -> None:
        self.member = member
        self.or_one = or_one
        self.may_be_empty = may_be_empty

    def __call__(self, value: object, loc: Loc, findings: Findings) -> Any:
        if not isinstance(value, list):
            if not self.or_one:
                hint = "write `[one, two]`, or one `- item` a line"
                findings.problem(loc, f"expected a list, got {shown(value)}", hint)
                return BROKEN
            lone = self.member(value, loc, findings)
            return BROKEN if lone is BROKEN else (lone,)
        if not value and not self.may_be_empty:
            findings.problem(loc, "the list is empty", "list at least one, or remove the key", key=True)
            return BROKEN
        members = [self.member(item, (*loc, index), findings) for index, item in enumerate(value)]
        return BROKEN if any(item is BROKEN for item in members) else tuple(members)


class RuleOf:
    """A rule: its value alone, or `{is: value, mode: shadow}`."""

    __slots__ = ("mode", "value")

    def __init__(self, value: Reader) -> None:
        self.value = value
        self.mode = One(one_of(Mode))

    def __call__(self, value: object, loc: Loc, findings: Findings) -> Any:
        if not isinstance(value, dict):
            plain = self.value(value, loc, findings)
            return BROKEN if plain is BROKEN else Ruled(plain)
        for name in value.keys() - _RULE_KEYS.keys():
            note_unknown(name, loc, _RULE_KEYS, findings)
        if "is" not in value:
            if not findings.has_one_at((*loc, "is")):
                hint = "write `{is: value, mode: shadow}`"
                findings.problem(loc, f"`is` is missing{_inside(loc)}", hint, key=True, check=Check.MISSING_KEY)
            return BROKEN
        given = self.value(value["is"], (*loc, "is"), findings)
        mode = self.mode(value["mode"], (*loc, "mode"), findings) if "mode" in value else None
        whole = value.keys() <= _RULE_KEYS.keys() and given is not BROKEN and mode is not BROKEN
        return Ruled(given, mode) if whole else BROKEN


class Shaped:
    """A mapping with the keys of `shape`.

    With `shorthand`, a value that is no mapping stands for that key alone.
    """

    __slots__ = ("keys", "shape", "shorthand")

    def __init__(self, shape: type[Any], *, shorthand: str | None = None) -> None:
        self.shape = shape
        self.shorthand = shorthand
        self.keys = {one.name: one for one in fields(shape)}

    def __call__(self, value: object, loc: Loc, findings: Findings) -> Any:
        keys = self.keys
        if not isinstance(value, dict):
            if self.shorthand is None:
                takes = f"it takes {', '.join(f'`{name}:`' for name in keys)}"
                hint = takes if len(keys) <= MAX_KEYS_IN_A_HINT else "write `key: value`, one to a line"
                findings.problem(loc, f"expected a mapping, got {shown(value)}", hint)
                return BROKEN
            lone = keys[self.shorthand].metadata["read"](value, loc, findings)
            return BROKEN if lone is BROKEN else self.shape(**{self.shorthand: lone})
        known = {name: item for name, item in value.items() if name in keys}
        for name in value.keys() - keys.keys():
            note_unknown(name, loc, keys, findings)
        parts = {name: keys[name].metadata["read"](item, (*loc, name), findings) for name, item in known.items()}
        missing = [one for name, one in keys.items() if one.default is MISSING and name not in value]
        for one in missing:
            note_missing(one, loc, findings)
        whole = len(known) == len(value) and not missing and not any(part is BROKEN for part in parts.values())
        return self.shape(**parts) if whole else BROKEN


# So that a shape reads as a sentence: `listed(one(words.name))`.
one = One
listed = Listed
ruled = RuleOf
shaped = Shaped


def note_unknown(name: str, loc: Loc, keys: Mapping[str, object], findings: Findings) -> None:
    """Say that the mapping at `loc` does not take the key `name`."""
    message = f"unknown key {shown(name)}{_inside(loc)}"
    hint = did_you_mean(name, keys) or "remove it; README lists what may stand here"
    findings.problem((*loc, name), message, hint, key=True, check=Check.UNKNOWN_KEY)


def note_missing(one: Field[Any], loc: Loc, findings: Findings) -> None:
    """Say that a required key is not there, unless it is there without a value and that was said already."""
    if not findings.has_one_at((*loc, one.name)):
        message = f"`{one.name}` is missing{_inside(loc)}"
        findings.problem(loc, message, one.metadata["hint"], key=True, check=Check.MISSING_KEY)


def _inside(loc: Loc) -> str:
    named = [str(part) for part in loc if isinstance(part, str)]
    return f" in {shown('.'.join(named))}" if named else ""
