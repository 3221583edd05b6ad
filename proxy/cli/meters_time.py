"""Points in time as people write them: `2026-11-22`, `2026-11-22T18:00`, `2026-11`, `-24h`, `yesterday`, `now`.

A time without a zone is UTC, as everything in the meters is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"-([0-9]{1,6})([mhdw])")
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def point_in_time(text: str, now_s: float) -> float:
    """Unix time; days begin at midnight UTC, `-24h` counts back from `now_s`. Raises ValueError."""
    now = datetime.fromtimestamp(now_s, UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": today, "yesterday": today - timedelta(days=1)}
    ago, month = _AGO.fullmatch(text), _MONTH.fullmatch(text)
    try:
        if text in words:
            found = words[text]
        elif ago is not None:
            found = now - int(ago[1]) * _UNITS[ago[2]]
        elif month is not None:
            found = datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC)
        else:
            found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        hint = "write `2026-11-22`, `2026-11-22T18:00Z`, `2026-11`, `-24h`, `today` or `yesterday`"
        raise ValueError(f"not a time: `{text}` (hint: {hint})") from None
