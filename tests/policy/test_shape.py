"""Shapes read what fits, and note every mistake with its place instead of stopping at the first."""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.policy import units, words
from proxy.policy.document import read_document
from proxy.policy.findings import Findings
from proxy.policy.shape import BROKEN, Reader, key, listed, one, shaped
from proxy.policy.source import SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: int = key(one(units.count), hint="write `number: 1`")
    note: str = key(one(words.text), default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str = key(one(words.name))
    inner: Inner | None = key(shaped(Inner, shorthand="number"), default=None)
    numbers: tuple[int, ...] = key(listed(one(units.count), or_one=True), default=())


OUTER = shaped(Outer)


def read(text: str, reader: Reader = OUTER) -> tuple[Any, list[str]]:
    document = read_document((SourceFile("p", f"it: {text}"),), {})
    findings = Findings(document)
    return reader(document.root["it"], ("it",), findings), [str(problem) for problem in findings.problems]


def test_what_fits_becomes_the_dataclass() -> None:
    value, said = read("{name: a, inner: {number: 2k, note: x}, numbers: [1, 2]}")
    assert value == Outer(name="a", inner=Inner(number=2000, note="x"), numbers=(1, 2))
    assert said == []


def test_defaults_and_shorthands() -> None:
    assert read("{name: a}")[0] == Outer(name="a")
    assert read("{name: a, inner: 3, numbers: 4}")[0] == Outer(name="a", inner=Inner(number=3), numbers=(4,))


def test_every_mistake_is_noted_with_its_place() -> None:
    value, said = read("{name: a b, innner: 1, numbers: [1, x]}")
    assert value is BROKEN
    assert said == [
        "p:1:12: `a b` is not a valid name (hint: letters, digits and `. _ : / -`, at most 128)",
        "p:1:17: unknown key `innner` in `it` (hint: did you mean `inner`?)",
        "p:1:41: expected a whole number, got `x` (hint: write `64`, `2k` or `2M`)",
    ]


def test_a_missing_key_is_placed_at_what_misses_it() -> None:
    value, said = read("{name: a, inner: {note: x}}")
    assert value is BROKEN
    assert said == ["p:1:15: `number` is missing in `it.inner` (hint: write `number: 1`)"]


def test_a_key_without_a_value_is_not_called_missing_too() -> None:
    value, said = read("{name: }")
    assert value is BROKEN
    assert said == ["p:1:12: `name` has no value (hint: give it a value, or remove the line)"]


def test_shapes_and_lists_are_not_each_other() -> None:
    assert read("[a]")[1] == ["p:1:5: expected a mapping, got a list (hint: it takes `name:`, `inner:`, `numbers:`)"]
    assert read("x", listed(one(words.name)))[1] == [
        "p:1:5: expected a list, got `x` (hint: write `[one, two]`, or one `- item` a line)"
    ]


def test_an_empty_list_is_refused_unless_it_may_be_empty() -> None:
    assert read("[]", listed(one(words.name)))[0] is BROKEN
    assert read("[]", listed(one(words.name), may_be_empty=True)) == ((), [])
