"""A breakdown of an upstream, as opposed to its answer: what it counts as, and what the caller is told of it."""

from __future__ import annotations

from proxy.policy.model import Endpoint, Lane
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Refusal
from proxy.routing.refusals import cut_off
from proxy.upstream.rejection import full

_TIMEOUTS = (Failure.CONNECT_TIMEOUT, Failure.FIRST_TOKEN_TIMEOUT, Failure.IDLE_TIMEOUT, Failure.TOTAL_TIMEOUT)


def failure_of_break(attempt: Attempt, endpoint: Endpoint, *, announced: bool) -> Failure:
    """What a broken connection means; `announced` says that a stream had begun, and no content had come of it.

    vLLM, when full, may announce a Responses stream and close it before the first token. An engine that has really died
    will not take the next connection, and is found out by that.
    """
    engine = attempt.target.lane is Lane.DEDICATED and endpoint is Endpoint.RESPONSES
    return Failure.FULL if announced and engine else Failure.BROKEN


def refusal_of_breakdown(attempt: Attempt, failure: Failure, detail: str) -> Refusal:
    """What the caller is told of a failure that is nobody's answer."""
    if failure is Failure.FULL:
        return full(attempt.target)
    if failure is Failure.BUDGET:
        return cut_off(attempt)
    timed_out = failure in _TIMEOUTS
    code = "upstream_timeout" if timed_out else "upstream_stream_truncated" if failure is Failure.BROKEN else ""
    return Refusal(
        status=504 if timed_out else 502,
        type="server_error",
        code=code or f"upstream_{failure.label}",
        message=f"target `{attempt.target.name}`: {detail}",
        rule="upstream",
    )
