"""A minimum over the non-negative orthant, by a quasi-Newton method that touches its vectors element by element.

Theory of operation
-------------------
Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with projection (Bertsekas 1982): what
is at zero and would fall below it stays there for this step, the rest goes down the quasi-Newton direction, and the
line search walks along the projected path. SciPy's L-BFGS-B does the same, but asks BLAS for it: on a machine with
other work to do, the threads of BLAS wait for one another for twenty times as long as these sums take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats]]
"""A function's value and its gradient."""
MEMORY = 10
_FIRST_MOVE = 0.1
_SUFFICIENT = 1e-4
_HALVINGS = 12


def minimum(objective: Objective, start: Floats, steps: int) -> Floats:
    """Where `objective`, convex and smooth, is about as low as `steps` steps get it from `start`, above or at zero.

    The first step moves no coordinate by more than a tenth: measure them in what is typical.
    """
    at = start
    value, gradient = objective(at)
    pairs: deque[tuple[Floats, Floats, float]] = deque(maxlen=MEMORY)
    for _ in range(steps):
        free = (at > 0) | (gradient < 0)
        downhill = np.where(free, gradient, 0.0)
        direction = np.where(free, -_newton(downhill, pairs), 0.0)
        if dot(direction, gradient) >= 0:
            pairs.clear()
            direction = -_newton(downhill, pairs)
        found = _search(objective, at, value, gradient, direction)
        if found is None and not pairs:
            break
        if found is None:
            pairs.clear()
            continue
        after, value, steeper = found
        moved, turned = after - at, steeper - gradient
        if (curvature := dot(moved, turned)) > 0:
            pairs.append((moved, turned, curvature))
        at, gradient = after, steeper
    return at


def dot(x: Floats, y: Floats) -> float:
    """The inner product of two vectors, without BLAS."""
    return float(np.einsum("i,i->", x, y))


def _newton(gradient: Floats, pairs: deque[tuple[Floats, Floats, float]]) -> Floats:
    """The gradient times the inverse of the Hessian, as far as the last moves and turns tell it."""
    if not pairs:
        return gradient * (_FIRST_MOVE / max(float(np.abs(gradient).max(initial=0.0)), 1e-300))
    result = gradient.copy()
    shares = []
    for moved, turned, curvature in reversed(pairs):
        share = dot(moved, result) / curvature
        result -= share * turned
        shares.append(share)
    _, turned, curvature = pairs[-1]
    result *= curvature / dot(turned, turned)
    for (moved, turned, curvature), share in zip(pairs, reversed(shares), strict=True):
        result += (share - dot(turned, result) / curvature) * moved
    return result


def _search(
    objective: Objective, at: Floats, value: float, gradient: Floats, direction: Floats
) -> tuple[Floats, float, Floats] | None:
    """The first of ever shorter steps that lowers the value by enough; None if none does."""
    length = 1.0
    for _ in range(_HALVINGS):
        after = np.maximum(at + length * direction, 0.0)
        lower, steeper = objective(after)
        if lower < value + _SUFFICIENT * dot(gradient, after - at):
            return after, lower, steeper
        length /= 2
    return None
