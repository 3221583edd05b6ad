"""Looks the parameters of a LiteLLM deployment up where LiteLLM would, and reads them as a policy spells them.

Theory of operation
-------------------
LiteLLM gathers parameters from several places, and takes numbers as numbers or as text. `Given` reads each where it
stands first, and settles it: what a policy cannot spell is noted and counts as absent. `Keys` gives keys that are
written in clear a name, so that the policy can refer to them; it is the only one that sees them.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from proxy.policy import units
from proxy.policy.document import Loc
from proxy.policy.from_litellm.document import Config, Json
from proxy.policy.from_litellm.vendor import REFERENCE
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown


class Keys:
    """The names of the environment variables that stand for keys; each key in clear gets one of its own."""

    def __init__(self, text: str) -> None:
        self._taken = {match[1] for match in REFERENCE.finditer(text)}
        self._names: dict[str, str] = {}

    def variable_for(self, key: str, wanted: str) -> str:
        """The variable for `key`, `wanted` or one like it."""
        if key not in self._names:
            names = (wanted, *(f"{wanted}_{number}" for number in range(2, 100_000)))
            self._names[key] = next(name for name in names if name not in self._taken)
            self._taken.add(self._names[key])
        return self._names[key]


class Given:
    """Parameters by name, the first place that has one wins; reading one settles it."""

    def __init__(self, config: Config, *locs: Loc) -> None:
        self._config = config
        self._locs: dict[str, Loc] = {}
        for loc in reversed(locs):
            values = config.get(loc)
            for key in values if isinstance(values, dict) else ():
                if values[key] is not None:
                    self._locs[key] = (*loc, key)

    def __contains__(self, key: str) -> bool:
        return key in self._locs

    def take(self, key: str) -> Json:
        """The value, which the policy expresses."""
        return self._config.take(self._locs[key]) if key in self._locs else None

    def word(self, key: str) -> str | None:
        """The value as text; what has parts is noted."""
        value = self.take(key)
        if isinstance(value, dict | list):
            self.note(key, f"`{key}` is not imported: expected text, got {shown(value)}", "write one word")
            return None
        return None if value is None else str(value).strip()

    def count(self, key: str) -> int | None:
        """The value as a whole number of at least one; anything else is noted."""
        value = self.take(key)
        try:
            return None if value is None else units.count(value)
        except Mistake as mistake:
            self.note(key, f"`{key}` is not imported: {mistake.message}", mistake.hint)
            return None

    def duration(self, key: str) -> str | None:
        """The value, in seconds, as a policy spells it; anything else is noted."""
        value = self.take(key)
        try:
            return None if value is None else duration(value)
        except Mistake as mistake:
            self.note(key, f"`{key}` is not imported: {mistake.message}", mistake.hint)
            return None

    def note(self, key: str, message: str, hint: str = "") -> None:
        """Say something about the key."""
        self._config.note(self._locs[key], message, hint)


def duration(value: Json) -> str:
    """Seconds, as a policy spells them. Raises `Mistake`."""
    spelled = units.spell_duration(float(_number(value)))
    units.duration_s(spelled)
    return spelled


def usd_per_mtok(value: Json) -> str:
    """Dollars a token, as a policy spells dollars a million tokens. Raises `Mistake`."""
    dollars = (_number(value) * 10**6).quantize(Decimal("1e-9")).normalize()
    units.nano_usd(f"{dollars:f}")
    return f"{dollars:f}"


def _number(value: Json) -> Decimal:
    try:
        number = Decimal(str(value))
        if not isinstance(value, bool) and number.is_finite() and abs(number) < 10**12:
            return number
    except InvalidOperation:
        pass
    raise Mistake("not a number", "")
