"""Words as a policy writes them: names, enumerations, globs, and how a wrong one is shown and corrected.

Theory of operation
-------------------
Like `units`: each function takes a YAML value and returns the canonical one or raises `Mistake`. Names become metric
labels, headers and Redis keys, so their alphabet is small and a few are kept for the program's own use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Generic, TypeVar

from proxy.policy.problem import Mistake
from proxy.policy.units import duration_s, spell_duration
from proxy.policy.variables import Interpolated, revealed, shown

NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
REGION = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
REGION_GLOB = re.compile(r"[a-z0-9._*?-]{1,63}")
RESERVED = frozenset({"anonymous", "none", "other", "unknown"})
"""Label values of the program itself: a caller without a tenant, nothing chosen, not in the policy, not stated."""

OWN_MEMBERS = frozenset({"model", "messages", "input", "prompt", "stream", "stream_options", "tools", "system"})
"""Body members that make up the request itself, or that the relay sets."""

_E = TypeVar("_E", bound=StrEnum)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of `known` that `word` may be a slip of."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.75)
    return close[0] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` with the nearest of `known`, or the choice when it is short, or nothing."""
    choices = sorted(known)
    close = nearest(word, choices)
    if close:
        return f"did you mean `{close}`?"
    return f"known: {', '.join(f'`{choice}`' for choice in choices)}" if 0 < len(choices) <= 16 else ""


def text(value: object) -> str:
    """Non-empty text without control characters or blanks at its ends."""
    words = revealed(value)
    if not isinstance(words, str):
        hint = "put it in quotes" if isinstance(value, int | float) else "write one line of plain text"
        raise Mistake(f"expected text, got {shown(value)}", hint)
    if not words or words != words.strip() or not words.isprintable():
        raise Mistake(f"empty, or with blanks or control characters: {shown(value)}", "write one line of plain text")
    return words


def name(value: object) -> str:
    """The name of a target, model, tenant, route or tag: `[A-Za-z0-9._:/-]{1,128}` and not reserved."""
    word = text(value)
    if not NAME.fullmatch(word):
        raise Mistake(f"{shown(value)} is not a valid name", "letters, digits and `. _ : / -`, at most 128")
    if word in RESERVED:
        raise Mistake(f"the name {shown(value)} is reserved", "choose another")
    return word


def region(value: object) -> str:
    """A region's name, lower-case so that no glob misses it by case. `unknown` satisfies no gate."""
    word = text(value)
    if not REGION.fullmatch(word):
        better = word.lower()
        plain = not isinstance(value, Interpolated) and REGION.fullmatch(better)
        hint = f"write `{better}`" if plain else "lower-case letters, digits and `. _ -`"
        raise Mistake(f"{shown(value)} is not a valid region", hint)
    return word


def region_glob(value: object) -> str:
    """A region or a pattern of regions, with `*` and `?`."""
    word = text(value)
    if word == "unknown":
        raise Mistake("an unknown region satisfies no gate", "name the regions that are allowed, such as `eu-*`")
    if not REGION_GLOB.fullmatch(word):
        hint = "lower-case letters, digits, `. _ -`, and `*` or `?` for the rest; several go in a list: [eu-*, uk-*]"
        raise Mistake(f"{shown(value)} is not a valid region pattern", hint)
    return word


def retention(value: object) -> str:
    """How long a target keeps prompts: `zero`, a time in its canonical spelling, or `unknown`."""
    word = revealed(value)
    if word in ("zero", "unknown"):
        return str(word)
    try:
        return spell_duration(duration_s(value))
    except Mistake:
        hint = "write `zero`, a time such as `30d`, or `unknown`"
        raise Mistake(f"{shown(value)} is not a retention", hint) from None


def retention_limit(value: object) -> str:
    """The longest retention that a gate lets pass: `zero` or a time."""
    limit = retention(value)
    if limit == "unknown":
        raise Mistake("an unknown retention satisfies no gate", "write `zero` or a time such as `30d`")
    return limit


def flag(value: object) -> bool:
    """`true` or `false`, as YAML 1.2 has it."""
    if not isinstance(value, bool):
        raise Mistake(f"expected `true` or `false`, got {shown(value)}", "write `true` or `false`")
    return value


def refusal_of_training(value: object) -> bool:
    """`training: false` as a rule -> True: only targets that do not train on prompts."""
    if flag(value):
        raise Mistake("nothing can require that prompts are trained on", "write `training: false`, or remove it")
    return True


def precision(value: object) -> str:
    """The number format of a model's weights: `bf16`, `fp8`, `int4`, ... `unknown` promises nothing."""
    word = text(value)
    if not REGION.fullmatch(word):
        raise Mistake(f"{shown(value)} is not a valid quantization", "write a word such as `bf16`, `fp8` or `int4`")
    return word


def parameters(value: object) -> dict[str, str | int | float | bool]:
    """Members that are set in every request body sent to a target: names with plain values."""
    if not isinstance(value, dict):
        raise Mistake(f"expected a mapping, got {shown(value)}", "write `{inference_geo: us}`")
    for member, item in value.items():
        if member in OWN_MEMBERS or not NAME.fullmatch(member):
            raise Mistake(f"`{member}` cannot be set for every request", "the request and its model decide that one")
        if isinstance(item, Interpolated) or not isinstance(item, str | int | float | bool):
            raise Mistake(f"`{member}` is not a plain value: {shown(item)}", "write a word, a number, true or false")
    return value


class OneOf(Generic[_E]):
    """A reader for the words of the enumeration `choices`; `otherwise` is the hint when none is near."""

    __slots__ = ("_otherwise", "choices", "known")

    def __init__(self, choices: type[_E], otherwise: str = "") -> None:
        self.choices = choices
        self._otherwise = otherwise
        self.known = tuple(choice.value for choice in choices)

    def __call__(self, value: object) -> _E:
        word = revealed(value)
        if isinstance(word, str) and word in self.known:
            return self.choices(word)
        listing = ", ".join(f"`{word}`" for word in self.known)
        close = nearest(value, self.known) if isinstance(value, str) else None
        hint = f"did you mean `{close}`?" if close else self._otherwise or f"write one of {listing}"
        raise Mistake(f"expected one of {listing}, got {shown(value)}", hint)


one_of = OneOf
"""So that a shape reads as a sentence: `one(words.one_of(Lane))`."""
