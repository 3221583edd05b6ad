"""How observations and limits are written in reasons: one spelling each, for decisions and for their explanation."""

from __future__ import annotations

from proxy.policy.model import Per

NANO = 10**9
_WINDOWS = {Per.HOUR: "an hour", Per.TOTAL: "in all"}


def seconds(value: float) -> str:
    """`420 ms`, `2.31 s`."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def tokens_per_s(gap_s: float) -> str:
    """The perceived speed that a gap between tokens amounts to: `31.3 tokens/s`."""
    return f"{1 / gap_s:.1f} tokens/s"


def percent(share: float) -> str:
    """`99.90%`."""
    return f"{share:.2%}"


def usd(nano_usd: int) -> str:
    """To the millionth of a dollar, without idle zeros: `$0.0005`."""
    return f"${nano_usd / NANO:.6f}".rstrip("0").rstrip(".")


def usd_per_mtok(nano_usd: int) -> str:
    """`$1.50/M tokens`."""
    return f"${nano_usd / NANO:.2f}/M tokens"


def usd_per(nano_usd: int, per: Per) -> str:
    """The limit of a window: `$500 a day`, `$20000 in all`."""
    return f"{usd(nano_usd)} {_WINDOWS.get(per, f'a {per}')}"


def listed(names: frozenset[str]) -> str:
    """In a fixed order: `fp8, int4`."""
    return ", ".join(sorted(names))
