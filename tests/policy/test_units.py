"""Numbers with units: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.problem import Mistake
from proxy.policy.units import (
    MAX_DURATION_S,
    count,
    duration_s,
    nano_usd,
    share,
    spell_duration,
    spell_step_time,
    step_time_s,
    tokens_per_s,
)
from proxy.policy.variables import Interpolated

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.text()),
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("800ms", 0.8), ("2s", 2.0), ("1.5 s", 1.5), ("5m", 300.0), ("6h", 21600.0), ("30d", 2592000.0)],
)
def test_durations(written: str, seconds: float) -> None:
    assert duration_s(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", [2, 2.5, "2", "2 minutes", "-2s", "0s", "0.1ms", "367d", "s", "", True, None, []])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        duration_s(written)


@given(st.integers(1, int(MAX_DURATION_S) * 1000))
def test_a_spelt_duration_is_read_back_as_itself(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert duration_s(spell_duration(seconds)) == seconds


@pytest.mark.parametrize(("seconds", "spelt"), [(2592000.0, "30d"), (90.0, "90s"), (3600.0, "1h"), (0.0015, "1.5ms")])
def test_a_duration_is_spelt_in_the_largest_unit_that_makes_it_whole(seconds: float, spelt: str) -> None:
    assert spell_duration(seconds) == spelt


@pytest.mark.parametrize(("written", "fraction"), [("99.9%", 0.999), ("100%", 1.0), ("0.5 %", 0.005)])
def test_shares(written: str, fraction: float) -> None:
    assert share(written) == pytest.approx(fraction)


@pytest.mark.parametrize("written", [0.999, "99.9", "101%", "0%", "-1%", "%", None])
def test_a_share_needs_its_sign_and_its_range(written: object) -> None:
    with pytest.raises(Mistake):
        share(written)


@pytest.mark.parametrize(("written", "number"), [(64, 64), ("64", 64), ("2k", 2000), ("1.5K", 1500), ("2M", 2_000_000)])
def test_counts(written: object, number: int) -> None:
    assert count(written) == number


@pytest.mark.parametrize("written", [0, -1, 1.5, "0.5", "1.0001k", "2G", "many", True, None, []])
def test_what_is_no_count_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        count(written)


@given(st.decimals(min_value=0, max_value=10**6, places=9))
def test_dollars_are_exact_to_the_nano(dollars: Decimal) -> None:
    assert nano_usd(f"${dollars:f}") == dollars * 10**9


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**4 - 1))
def test_a_float_of_yaml_costs_what_it_says(dollars: int, hundredths_of_cents: int) -> None:
    written = float(f"{dollars}.{hundredths_of_cents:04d}")
    assert nano_usd(written) == dollars * 10**9 + hundredths_of_cents * 10**5


@pytest.mark.parametrize("written", ["-1", -1, "1e7", 1e7, "1e-10", "nan", "inf", float("nan"), "free", True, None])
def test_what_is_no_price_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        nano_usd(written)


@given(ANYTHING, st.sampled_from([duration_s, step_time_s, share, count, nano_usd, tokens_per_s]))
def test_anything_else_is_a_mistake_and_nothing_but(value: object, read: object) -> None:
    try:
        number = read(value)  # type: ignore[operator]
    except Mistake as mistake:
        assert mistake.message
        assert mistake.hint
    else:
        assert number >= 0


@given(st.text(min_size=1), st.sampled_from([duration_s, step_time_s, share, count, nano_usd, tokens_per_s]))
def test_what_the_environment_held_is_never_repeated(secret: str, read: object) -> None:
    value = Interpolated("\N{LOCK}" + secret, "${NAME}")
    with pytest.raises(Mistake) as refused:
        read(value)  # type: ignore[operator]
    assert "\N{LOCK}" not in refused.value.message + refused.value.hint


def test_a_speed_is_a_bare_number() -> None:
    assert tokens_per_s(30) == 30.0
    assert tokens_per_s("12.5") == 12.5
    for written in ("30 tps", "30/s", 0, -1, 100_001, "fast", True):
        with pytest.raises(Mistake, match="expected tokens per second"):
            tokens_per_s(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("16ms", 16e-3), ("90us", 90e-6), ("30 ns", 30e-9), ("1.8ns", 1.8e-9), ("0.5s", 0.5), ("0ns", 0.0)],
)
def test_a_part_of_a_step_may_be_very_short(written: str, seconds: float) -> None:
    assert step_time_s(written) == seconds


@pytest.mark.parametrize("written", ["16", 16, "-1ms", "1m", "1 minute", "11s", "soon", True, None])
def test_what_is_no_part_of_a_step_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        step_time_s(written)


@given(st.floats(1e-10, 9.9))
def test_such_a_time_is_spelled_as_it_is_read_to_three_digits(seconds: float) -> None:
    assert step_time_s(spell_step_time(seconds)) == pytest.approx(seconds, rel=5.1e-3)


def test_the_spelling_is_short() -> None:
    spelled = [spell_step_time(seconds) for seconds in (16e-3, 90e-6, 30e-9, 1.8e-9, 0.0, 1.25, 0.000123456)]
    assert spelled == ["16ms", "90us", "30ns", "1.8ns", "0ns", "1.25s", "123us"]
