"""Vectors of counts: what one series adds up to, in the order of `fields.COUNTERS`.

Theory of operation
-------------------
Each count only grows, so two readings of one vector merge by taking the greater of each (a G-counter). In the store and
on the way to it a vector is text, `v1,v2,...`; zeros at its end are left out, so that a release which counts more than
another shares its vectors, and what is missing counts as zero. The store's half of this arithmetic is
`lua/vectors.lua`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

Vector = tuple[int, ...]


def encode(vector: Sequence[int]) -> str:
    """As the store has it."""
    end = len(vector)
    while end and not vector[end - 1]:
        end -= 1
    return ",".join(map(str, vector[:end]))


def decode(text: bytes) -> Vector:
    """The inverse of `encode`. Raises ValueError."""
    return tuple(map(int, text.split(b","))) if text else ()


def add(one: Vector, other: Vector) -> Vector:
    """Count by count."""
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0))


def excess(one: Vector, other: Vector) -> Vector:
    """How far `one` goes beyond `other`, count by count, and not below zero."""
    return tuple(max(a - b, 0) for a, b in zip_longest(one, other, fillvalue=0))


def add_by_name(parts: Iterable[Mapping[str, Vector]]) -> dict[str, Vector]:
    """The sum, name by name."""
    total: dict[str, Vector] = {}
    for part in parts:
        for name, vector in part.items():
            before = total.get(name)
            total[name] = vector if before is None else add(before, vector)
    return total
