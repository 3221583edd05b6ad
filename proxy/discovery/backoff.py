"""How long to wait after so many failures in a row: twice as long each time, up to a limit.

Half of it is by chance, so that the proxies of a cluster do not all come back at once. It is never less than the server
asks for.
"""

from __future__ import annotations

LONGEST_ADVICE_S = 60.0
_DOUBLINGS = 16


def pause_s(failures: int, draw: float, *, first_s: float, longest_s: float, advised_s: float = 0.0) -> float:
    """Seconds to wait after `failures` (1 or more); `draw` is a random number in [0, 1)."""
    usual_s = min(longest_s, first_s * 2.0 ** min(failures - 1, _DOUBLINGS))
    return max(usual_s * (0.5 + 0.5 * draw), min(advised_s, LONGEST_ADVICE_S) * (1.0 + 0.1 * draw))
