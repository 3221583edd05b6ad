"""What became of every request of a replay, in columns.

Theory of operation
-------------------
A replay writes one row per request of its trace, in the trace's order; everything that is reported is worked out of
these columns afterwards. *Pace* is the time per output token after the first, over at least `MIN_PACE_TOKENS`: the
gaps of an answer of five tokens say nothing of what its reader feels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.trace import Trace

MIN_PACE_TOKENS = 32
REFUSED = -1
"""In the column `target`: nobody served it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One run of `trace` under one policy with so many replicas of each dedicated target.

    `target` indexes `targets`, or is `REFUSED`; `spilled` says that a shared target served it for want of room on a
    dedicated one; `route` indexes `routes`. `ttft_s`, `pace_s` and `e2e_s` are NaN for what was refused. `nano_usd` is
    the shared price of each request, 0 on dedicated GPUs, whose hours cost `gpu_nano_usd` over the trace's span.
    `reason` indexes `reasons`. `ttft_objective_s` and `pace_objective_s` are those of each request's route, infinite
    where it has none. `wall_s` is how long the replay took.
    """

    trace: Trace
    policy: str
    replicas: dict[str, int]
    targets: tuple[str, ...]
    routes: tuple[str, ...]
    reasons: tuple[str, ...]
    target: NDArray[np.int16]
    route: NDArray[np.int16]
    reason: NDArray[np.int16]
    spilled: NDArray[np.bool_]
    ttft_s: NDArray[np.float32]
    pace_s: NDArray[np.float32]
    e2e_s: NDArray[np.float32]
    nano_usd: NDArray[np.int64]
    ttft_objective_s: NDArray[np.float32]
    pace_objective_s: NDArray[np.float32]
    gpu_nano_usd: int
    wall_s: float

    @property
    def met(self) -> NDArray[np.bool_]:
        """Which requests were served within both objectives of their route; what was refused was not."""
        within: NDArray[np.bool_] = (self.ttft_s <= self.ttft_objective_s) & (self.pace_s <= self.pace_objective_s)
        return within

    @property
    def nano_usd_in_all(self) -> int:
        """GPU hours and shared tokens together."""
        return self.gpu_nano_usd + int(self.nano_usd.sum())
