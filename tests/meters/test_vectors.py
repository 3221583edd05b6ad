"""The arithmetic of vectors, here and in the store."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.meters.store import _script
from proxy.meters.vectors import Vector, add, add_by_name, decode, encode, excess
from tests.thorough import examples

HUGE = 9 * 10**18
counts = st.one_of(
    st.integers(0, 100),
    st.integers(0, HUGE),
    st.integers(0, 30).flatmap(lambda bits: st.integers(-2, 2).map(lambda more: max(0, 10**15 * bits + more))),
    st.integers(-2, 2).map(lambda more: 2**53 + more),
)
vectors = st.lists(counts, max_size=5).map(tuple)


def trimmed(vector: Vector) -> Vector:
    return trimmed(vector[:-1]) if vector and not vector[-1] else vector


@given(vectors)
def test_a_vector_comes_back_without_the_zeros_at_its_end(vector: Vector) -> None:
    assert decode(encode(vector).encode()) == trimmed(vector)


@given(vectors, vectors)
def test_what_goes_beyond_and_the_rest_add_up(one: Vector, other: Vector) -> None:
    greater = add(other, excess(one, other))
    for n, value in enumerate(greater):
        assert value == max(one[n] if n < len(one) else 0, other[n] if n < len(other) else 0)


def test_sums_by_name_take_vectors_of_any_length() -> None:
    assert add_by_name([{"a": (1, 2)}, {"a": (1,), "b": (5,)}, {"a": (0, 0, 3)}]) == {"a": (2, 2, 3), "b": (5,)}


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=vectors, given_=vectors)
def test_the_store_reckons_exactly_as_we_do(raw_now: Any, stored: Vector, given_: Vector) -> None:
    """Raising tells by how much, adding adds, in integers that no double holds."""
    script = "\n".join(
        (
            _script("numbers"),
            _script("vectors"),
            "redis.call('DEL', KEYS[1])",
            "redis.call('HSET', KEYS[1], 'max', ARGV[1], 'sum', ARGV[1])",
            "local by = raise_vector(KEYS[1], 'max', ARGV[2])",
            "if by then add_vector(KEYS[1], 'sum', by) end",
            "return {redis.call('HGET', KEYS[1], 'max'), redis.call('HGET', KEYS[1], 'sum'), by or ''}",
        )
    )
    greatest, total, by = map(decode, raw_now(script, encode(stored), encode(given_)))
    assert trimmed(greatest) == trimmed(add(stored, excess(given_, stored)))
    assert trimmed(by) == trimmed(excess(given_, stored))
    assert trimmed(total) == trimmed(greatest)
