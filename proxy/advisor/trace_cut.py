"""A trace with a part of its time, at another pace, or asking for another model.

Theory of operation
-------------------
Columns are cut and divided, never resampled: a trace at three times the rate has the same bursts, three times as dense.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from proxy.advisor.trace import Trace


def scaled(trace: Trace, rate: float) -> Trace:
    """The same requests in `rate` times less time. `rate` is above 0."""
    return dataclasses.replace(trace, arrival_s=trace.arrival_s / rate, span_s=trace.span_s / rate)


def sliced(trace: Trace, begin_s: float, end_s: float) -> Trace:
    """The requests from `begin_s` to before `end_s`, counted from the trace's beginning; the slice begins at `begin_s`.

    Raises ValueError where that is no time of the trace, or nobody asked for anything.
    """
    end_s = min(end_s, trace.span_s)
    first, last = np.searchsorted(trace.arrival_s, (begin_s, end_s))
    if first >= last:
        raise ValueError("no request arrives in that part of the trace")
    kept = slice(int(first), int(last))
    return dataclasses.replace(
        trace,
        arrival_s=trace.arrival_s[kept] - begin_s,
        input_tokens=trace.input_tokens[kept],
        output_tokens=trace.output_tokens[kept],
        app=trace.app[kept],
        span_s=end_s - begin_s,
        prefix=None if trace.prefix is None else trace.prefix[kept],
        began_at_s=None if trace.began_at_s is None else trace.began_at_s + begin_s,
    )


def asking_for(trace: Trace, model: str) -> Trace:
    """The same requests, all for `model`."""
    return dataclasses.replace(trace, apps=tuple(dataclasses.replace(app, model=model) for app in trace.apps))
