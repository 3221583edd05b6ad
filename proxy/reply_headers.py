"""What the headers of a reply say of the decision behind it, made once for the replies that share it."""

from __future__ import annotations

from proxy.caller import FixedHeaders
from proxy.policy.model import Snapshot
from proxy.routing.plan import Attempt, Cause, Plan


class ReplyHeaders:
    """The headers of one policy's replies after another's; `forget` when the policy changes."""

    __slots__ = ("_known", "degraded")

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], FixedHeaders] = {}
        self.degraded = b""
        """What does not work as it should at the moment; whoever knows keeps it up to date."""

    def forget(self) -> None:
        """Let go of what was made so far."""
        self._known = {}

    def of(self, snapshot: Snapshot, plan: Plan, attempt: Attempt) -> FixedHeaders:
        """The headers of an attempt's reply; those of first attempts, whose reasons are few, are made once."""
        if self.degraded:
            return (*_made(snapshot, plan, attempt), (b"x-spillway-degraded", self.degraded))
        if attempt.cause is not Cause.PREFERRED:
            return _made(snapshot, plan, attempt)
        key = (snapshot.digest, plan.route, attempt.target.name, attempt.reason)
        headers = self._known.get(key)
        if headers is None:
            headers = self._known[key] = _made(snapshot, plan, attempt)
        return headers


def _made(snapshot: Snapshot, plan: Plan, attempt: Attempt) -> FixedHeaders:
    target = attempt.target
    return (
        (b"x-spillway-target", target.name.encode()),
        (b"x-spillway-lane", target.lane.value.encode()),
        (b"x-spillway-route", plan.route.encode()),
        (b"x-spillway-reason", attempt.reason.encode()),
        (b"x-spillway-attempts", b"%d" % (attempt.ordinal + 1)),
        (b"x-spillway-policy", snapshot.revision.encode()),
    )
