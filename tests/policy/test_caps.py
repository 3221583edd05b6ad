"""Budgets' own words: what is read, what is refused, and that no nano-dollar is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.caps import MAX_USD, alert, cap, exhausted
from proxy.policy.model import Cap, Exhausted, Per
from proxy.policy.problem import Mistake
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
    ("written", "nano_usd", "per"),
    [
        ("$500/day", 500 * 10**9, Per.DAY),
        ("500/day", 500 * 10**9, Per.DAY),
        ("$0.05 / hour", 5 * 10**7, Per.HOUR),
        ("$1.000000001/week", 10**9 + 1, Per.WEEK),
        ("$9000000/total", 9 * 10**15, Per.TOTAL),
        (Interpolated("$5/month", "${CAP}/month"), 5 * 10**9, Per.MONTH),
    ],
)
def test_limits(written: object, nano_usd: int, per: Per) -> None:
    assert cap(written) == Cap(nano_usd, per)


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("$500", "a limit without its window: `$500`", "`/total` never ends"),
        (500, "a limit without its window: `500`", "add one of `/hour`"),
        ("$500/days", "not a window of time: `$500/days`", "did you mean `$500/day`?"),
        ("$500/year", "not a window of time: `$500/year`", "write one of `/hour`, `/day`, `/week`, `/month`, `/total`"),
        ("$0/day", "limit out of range: `$0/day`", "above 0"),
        ("$9000001/day", "limit out of range: `$9000001/day`", "at most $9000000"),
        ("$0.0000000001/day", "finer than a billionth of a dollar: `$0.0000000001/day`", "nine decimals"),
        ("-5/day", "expected a limit, got `-5/day`", "write `$500/day`"),
        ("€5/day", "expected a limit, got `€5/day`", "write `$500/day`"),
        ("5 dollars a day", "expected a limit, got `5 dollars a day`", "write `$500/day`"),
        (True, "expected a limit, got `true`", "write `$500/day`"),
        (None, "expected a limit, got nothing", "write `$500/day`"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_to_write(written: object, message: str, hint: str) -> None:
    with pytest.raises(Mistake) as refused:
        cap(written)
    assert refused.value.message == message
    assert hint in refused.value.hint


def test_what_the_environment_held_is_not_told() -> None:
    for window in ("5/hunter2", "5/daya"):
        with pytest.raises(Mistake) as refused:
            cap(Interpolated(window, "${CAP}"))
        assert window not in refused.value.message + refused.value.hint


@given(st.integers(1, MAX_USD * 10**9), st.sampled_from(Per))
def test_no_nano_dollar_is_lost(nano_usd: int, per: Per) -> None:
    whole, rest = divmod(nano_usd, 10**9)
    assert cap(f"${whole}.{rest:09d}/{per}") == Cap(nano_usd, per)


@pytest.mark.parametrize(("written", "percent"), [("80%", 80), ("1 %", 1), ("1000%", 1000), (" 5% ", 5)])
def test_alerts(written: str, percent: int) -> None:
    assert alert(written) == percent


@pytest.mark.parametrize("written", [80, 0.8, "80", "0%", "1001%", "99.5%", "-1%", "%", None, True, []])
def test_what_is_no_alert_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        alert(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("dedicated_only", (Exhausted.DEDICATED_ONLY, None)),
        ("reject", (Exhausted.REJECT, None)),
        ({"downgrade": "small"}, (Exhausted.DOWNGRADE, "small")),
        ("downgrade: small", (Exhausted.DOWNGRADE, "small")),
        (Interpolated("reject", "${THEN}"), (Exhausted.REJECT, None)),
        ({"downgrade": Interpolated("small", "${SMALL}")}, (Exhausted.DOWNGRADE, "small")),
    ],
)
def test_what_becomes_of_requests(written: object, meant: tuple[Exhausted, str | None]) -> None:
    assert exhausted(written) == meant


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("rejct", "did you mean `reject`?"),
        ("downgrade", "`{downgrade: model}` names the model"),
        ({"downgrade": "small", "and": "more"}, "`{downgrade: model}` names the model"),
        ({"downgrade": None}, "write one line of plain text"),
        ({"downgrade": "a b"}, "letters, digits"),
        (["reject"], "`{downgrade: model}` names the model"),
    ],
)
def test_what_is_no_way_out_is_refused(written: object, hint: str) -> None:
    with pytest.raises(Mistake) as refused:
        exhausted(written)
    assert hint in refused.value.hint


@given(ANYTHING)
def test_anything_is_read_or_refused(value: object) -> None:
    for read in (cap, alert, exhausted):
        try:
            read(value)
        except Mistake as mistake:
            assert mistake.message[0].islower()
