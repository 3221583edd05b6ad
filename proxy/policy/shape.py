"""Reads plain values into frozen dataclasses, noting every mistake with its place instead of stopping at the first.

Theory of operation
-------------------
A dataclass whose fields are made by `key()` is a *shape*: each field carries the reader of its value. Readers come in
three kinds: `one` wraps a function that returns the value or raises `Mistake`; `listed` and `shaped` read the members
of a list and of a mapping. A reader notes mistakes in the findings and answers `BROKEN`, and whatever holds a broken
part is broken too, up to the item (a target, a route) that `Findings.drop` then takes out of the game.

Why not pydantic: importing it took longer than all the rest of a start (0.4 s against 0.1 s), and the
messages, places and remedies would have to be written here anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Mode
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean, one_of

Reader = Callable[[object, Loc, Findings], Any]
BROKEN = object()


def key(read: Reader, *, default: Any = MISSING, hint: str = "") -> Any:
    """A key of a shape: required unless it has a default; `hint` says what to write when it is missing."""
    return field(default=default, metadata={"read": read, "hint": hint})


@dataclass(frozen=True, slots=True)
class Ruled:
    """The value of a rule, and whether it binds."""

    value: Any
    mode: Mode | None = None


_RULE_KEYS = {"is": None, "mode": None}


def one(parse: Callable[[object], Any]) -> Reader:
    """A single value, as `parse` returns it."""

    def read(value: object, loc: Loc, findings: Findings) -> Any:
        try:
            return parse(value)
        except Mistake as mistake:
            findings.mistake(loc, mistake)
            return BROKEN

    return read


_MODE = one(one_of(Mode))


def listed(member: Reader, *, or_one: bool = False, may_be_empty: bool = False) -> Reader:
    """A list of members, as a tuple; with `or_one`, a lone value stands for a list of one.

    An empty list is refused where leaving the key out would mean the opposite: no member against every one.
    """

    def read(value: object, loc: Loc, findings: Findings) -> Any:
        if not isinstance(value, list):
            if not or_one:
                hint = "write `[one, two]`, or one `- item` a line"
                findings.problem(loc, f"expected a list, got {shown(value)}", hint)
                return BROKEN
            lone = member(value, loc, findings)
            return BROKEN if lone is BROKEN else (lone,)
        if not value and not may_be_empty:
            findings.problem(loc, "the list is empty", "list at least one, or remove the key", key=True)
            return BROKEN
        members = [member(item, (*loc, index), findings) for index, item in enumerate(value)]
        return BROKEN if any(item is BROKEN for item in members) else tuple(members)

    return read


def ruled(read: Reader) -> Reader:
    """A rule: its value alone, or `{is: value, mode: shadow}`."""

    def read_rule(value: object, loc: Loc, findings: Findings) -> Any:
        if not isinstance(value, dict):
            plain = read(value, loc, findings)
            return BROKEN if plain is BROKEN else Ruled(plain)
        for name in value.keys() - _RULE_KEYS.keys():
            findings.mistake((*loc, name), unknown_key(name, loc, _RULE_KEYS, {}), key=True)
        if "is" not in value:
            findings.problem(loc, f"`is` is missing{_inside(loc)}", "write `{is: value, mode: shadow}`", key=True)
            return BROKEN
        given = read(value["is"], (*loc, "is"), findings)
        mode = _MODE(value["mode"], (*loc, "mode"), findings) if "mode" in value else None
        whole = value.keys() <= _RULE_KEYS.keys() and given is not BROKEN and mode is not BROKEN
        return Ruled(given, mode) if whole else BROKEN

    return read_rule


def shaped(shape: type[Any], *, shorthand: str | None = None, later: Mapping[str, str] | None = None) -> Reader:
    """A mapping with the keys of `shape`.

    With `shorthand`, a value that is no mapping stands for that key alone. `later` has the keys that the design knows
    and this release does not enforce, with what to do meanwhile: they are refused with those words.
    """
    keys = {one.name: one for one in fields(shape)}

    def read(value: object, loc: Loc, findings: Findings) -> Any:
        if not isinstance(value, dict):
            if shorthand is None:
                hint = f"it takes {', '.join(f'`{name}:`' for name in keys)}"
                findings.problem(loc, f"expected a mapping, got {shown(value)}", hint)
                return BROKEN
            lone = keys[shorthand].metadata["read"](value, loc, findings)
            return BROKEN if lone is BROKEN else shape(**{shorthand: lone})
        known = {name: item for name, item in value.items() if name in keys}
        for name in value.keys() - keys.keys():
            findings.mistake((*loc, name), unknown_key(name, loc, keys, later or {}), key=True)
        parts = {name: keys[name].metadata["read"](item, (*loc, name), findings) for name, item in known.items()}
        missing = [one for name, one in keys.items() if one.default is MISSING and name not in value]
        for one in missing:
            note_missing(one, loc, findings)
        whole = len(known) == len(value) and not missing and not any(part is BROKEN for part in parts.values())
        return shape(**parts) if whole else BROKEN

    return read


def unknown_key(name: str, loc: Loc, keys: Mapping[str, object], later: Mapping[str, str]) -> Mistake:
    """What to say of a key that a mapping does not take."""
    if name in later:
        return Mistake(f"`{name}` is not supported yet", later[name])
    return Mistake(f"unknown key {shown(name)}{_inside(loc)}", did_you_mean(name, keys))


def note_missing(one: Field[Any], loc: Loc, findings: Findings) -> None:
    """Say that a required key is not there, unless it is there without a value and that was said already."""
    if not findings.has_one_at((*loc, one.name)):
        findings.problem(loc, f"`{one.name}` is missing{_inside(loc)}", one.metadata["hint"], key=True)


def _inside(loc: Loc) -> str:
    named = [str(part) for part in loc if isinstance(part, str)]
    return f" in `{'.'.join(named)}`" if named else ""
