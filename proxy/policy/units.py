"""Numbers as a policy writes them: `800ms`, `30d`, `99.9%`, `2k`, `$1.50`.

Theory of operation
-------------------
Each function takes a YAML value (text, int, float, or something else entirely) and returns the canonical number, or
raises `Mistake` with what to write instead. A number that could mean two things is refused: a duration or a share needs
its unit. Money goes through `Decimal` to integer nano-USD, so that what the file says is what is charged.
"""

from __future__ import annotations

import re
from decimal import Decimal

from proxy.policy.problem import Mistake
from proxy.policy.variables import revealed, shown

NANO = 10**9
MIN_DURATION_S = 0.001
MAX_DURATION_S = 366 * 86400.0
MAX_USD = 10**6
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
MAX_STEP_S = 10.0
_SHORT = {"ns": Decimal("1e-9"), "us": Decimal("1e-6"), "ms": Decimal("0.001"), "s": Decimal(1)}
_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6}
_DOLLARS = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s?([A-Za-z%]*)")


def duration_s(value: object) -> float:
    """`800ms`, `2s`, `5m`, `6h`, `30d` -> seconds, from 1 ms to 366 days."""
    number, unit = _number_and_unit(value)
    if number is None:
        raise Mistake(f"expected a duration, got {shown(value)}", "write `800ms`, `2s`, `5m`, `6h` or `30d`")
    if unit not in _SECONDS:
        if unit:
            raise Mistake(f"not a unit of time: {shown(value)}", "use ms, s, m, h or d")
        raise Mistake(f"duration without a unit: {shown(value)}", f"write `{value}ms` or `{value}s`")
    seconds = float(number * _SECONDS[unit])
    if not MIN_DURATION_S <= seconds <= MAX_DURATION_S:
        raise Mistake(f"duration out of range: {shown(value)}", "from 1ms to 366d")
    return seconds


def step_time_s(value: object) -> float:
    """`16ms`, `90us`, `1.8ns` -> seconds, from 0 to 10 s: what a step of an engine takes, or a part of it."""
    number, unit = _number_and_unit(value)
    if number is None or unit not in _SHORT:
        raise Mistake(f"expected a part of a step's time, got {shown(value)}", "write `16ms`, `90us` or `1.8ns`")
    seconds = float(number * _SHORT[unit])
    if seconds > MAX_STEP_S:
        raise Mistake(f"longer than any step: {shown(value)}", "10s at most")
    return seconds


def share(value: object) -> float:
    """`99.9%` -> 0.999; above 0 and at most 100 %."""
    number, unit = _number_and_unit(value)
    if number is None or unit != "%":
        raise Mistake(f"expected a percentage, got {shown(value)}", "write `99.9%`")
    if not 0 < number <= 100:
        raise Mistake(f"percentage out of range: {shown(value)}", "above 0% and at most 100%")
    return float(number / 100)


def count(value: object) -> int:
    """`64`, `2k`, `2M` -> a whole number of at least 1."""
    number, unit = _number_and_unit(value)
    if number is None or unit not in _MULTIPLES:
        raise Mistake(f"expected a whole number, got {shown(value)}", "write `64`, `2k` or `2M`")
    whole = number * _MULTIPLES[unit]
    if whole != int(whole) or whole < 1:
        raise Mistake(f"expected a whole number of at least 1, got {shown(value)}", "write `64`, `2k` or `2M`")
    return int(whole)


def tokens_per_s(value: object) -> float:
    """`30` or `12.5` -> tokens a second, above 0 and at most 100,000."""
    number, unit = _number_and_unit(value)
    if number is None or unit or not 0 < number <= 100_000:
        raise Mistake(f"expected tokens per second, got {shown(value)}", "write a number such as `30`")
    return float(number)


def nano_usd(value: object) -> int:
    """`1.50` or `$1.50` -> nano-USD, exact; at least 0 and at most a million dollars."""
    text = revealed(value)
    text = text[1:] if isinstance(text, str) and text.startswith("$") else text
    is_number = isinstance(text, int | float) and not isinstance(text, bool)
    if not is_number and not (isinstance(text, str) and _DOLLARS.fullmatch(text)):
        raise Mistake(f"expected dollars, got {shown(value)}", "write `1.50`")
    dollars = Decimal(str(text))
    if not dollars.is_finite() or not 0 <= dollars <= MAX_USD:
        raise Mistake(f"dollars out of range: {shown(value)}", "at least 0 and at most 1000000")
    nano = dollars * NANO
    if nano != int(nano):
        raise Mistake(f"finer than a billionth of a dollar: {shown(value)}", "nine decimals at most")
    return int(nano)


def spell_duration(seconds: float) -> str:
    """The canonical spelling, in the largest unit that makes a whole number (`2592000.0` -> `30d`)."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m", "s"):
        number = exact / _SECONDS[unit]
        if number == int(number):
            return f"{int(number)}{unit}"
    return f"{(exact * 1000).normalize():f}ms"


def spell_step_time(seconds: float) -> str:
    """Such a time to three digits, in the unit that leaves one to three of them before the point (`30ns`)."""
    exact = Decimal(repr(seconds))
    unit = next((unit for unit in ("s", "ms", "us") if exact >= _SHORT[unit]), "ns")
    return f"{Decimal(f'{exact / _SHORT[unit]:.3g}').normalize():f}{unit}"


def _number_and_unit(value: object) -> tuple[Decimal | None, str]:
    """The number and the unit of `value`; None where there is no such thing."""
    value = revealed(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None, ""
    match = _NUMBER_AND_UNIT.fullmatch(str(value).strip())
    return (Decimal(match[1]), match[2]) if match else (None, "")
