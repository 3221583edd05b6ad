"""The rates that make the bound tight, exactly: the cheapest flow as a linear programme, for an hour of traffic.

Theory of operation
-------------------
The programme decides which share of each request is kept, and how its work flows into bins. A variable for each request
and bin would be millions; instead work enters the pyramid of `fluid` at the two blocks that cover its window, and each
block passes on to its two halves what comes into it:

    share * work   = what enters the left block + what enters the right one    (each request, prefill and decode)
    what comes in  = what the left half gets + what the right half gets        (each block of two bins or more)
    what comes in <= replicas * capacity                                       (each bin)

Every flow within the window is such a flow and no other is, since all bins of a block lie within any window that the
block helps to cover. The shadow prices of the bins' capacity are the rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

from proxy.advisor.fluid import Floats, Fluid

_INFEASIBLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The cheapest flow: what the shared lane is paid, the shares kept, and the bins' shadow prices.

    `shared` is infinite, and the rest is nothing, where even all capacity does not hold what may not be spilled.
    """

    shared: float
    rates: Floats
    kept: Floats


def optimum(fluid: Fluid, replicas: int) -> Optimum | None:
    """Solve the programme for so many replicas; None if the solver gives up."""
    priced = np.isfinite(fluid.price)
    unit = fluid.typical_rate
    balance = _balance(fluid)
    first_bin = 2 * len(fluid)
    inside = np.arange(first_bin, first_bin + fluid.bins)
    others = np.delete(np.arange(balance.shape[0]), inside)
    price = np.where(priced, fluid.price, 0.0)
    cost, lower, upper = np.zeros(balance.shape[1]), np.zeros(balance.shape[1]), np.full(balance.shape[1], np.inf)
    cost[: len(fluid)] = -price / unit
    lower[: len(fluid)] = ~priced
    upper[: len(fluid)] = 1.0
    found = linprog(
        cost,
        A_ub=balance[inside],
        b_ub=np.full(fluid.bins, replicas * fluid.capacity_s),
        A_eq=balance[others],
        b_eq=np.zeros(len(others)),
        bounds=np.column_stack((lower, upper)),
        method="highs-ipm",
    )
    if found.status == _INFEASIBLE:
        return Optimum(shared=np.inf, rates=np.zeros(fluid.bins), kept=np.zeros(len(fluid)))
    if found.status:
        return None
    rates = np.maximum(-found.ineqlin.marginals, 0.0) * unit
    return Optimum(shared=float(price.sum() + found.fun * unit), rates=rates, kept=found.x[: len(fluid)])


def _balance(fluid: Fluid) -> csr_array:
    """What comes in less what goes out. Rows: each request's prefill and decode work, then the blocks of the pyramid;
    columns: the shares kept, then the pieces that enter the pyramid, then what blocks pass on to their halves.
    """
    count = len(fluid)
    requests = np.arange(count)
    decodes, pyramid = count + requests, 2 * count
    halves = [_halves(fluid.bins, level) for level in range(1, fluid.levels)]
    blocks = np.concatenate([block for block, _ in halves for _ in (0, 1)] or [requests[:0]])
    givers = np.concatenate((requests, requests, decodes, decodes, pyramid + blocks))
    takers = pyramid + np.concatenate(
        [fluid.prefill.left, fluid.prefill.right, fluid.decode.left, fluid.decode.right]
        + [half for _, both in halves for half in both]
    )
    flows = count + np.arange(len(givers))
    ones = np.ones(len(givers))
    rows = np.concatenate((requests, decodes, givers, takers))
    columns = np.concatenate((requests, requests, flows, flows))
    values = np.concatenate((fluid.prefill_s, fluid.decode_s, -ones, ones))
    return csr_array((values, (rows, columns)), shape=(pyramid + fluid.levels * fluid.bins, count + len(givers)))


def _halves(bins: int, level: int) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The blocks of one row of the pyramid, and the left and the right half of each, in the row below."""
    half = 1 << (level - 1)
    begins = np.arange(bins - 2 * half + 1)
    below = (level - 1) * bins
    return level * bins + begins, (below + begins, below + half + begins)
