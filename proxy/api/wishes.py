"""What a caller asks for in `x-spillway-...` headers: a lane, a target, a traffic class, a priority, a session, tags.

Theory of operation
-------------------
Pure. A header that cannot be read, or asks for a tag or a priority that is not the caller's to have, is refused and
never ignored: it may have been meant to make the route stricter. Whether a route lets callers choose a lane or a target
is the router's business. None of these headers may be repeated (`guard.py`).
"""

from __future__ import annotations

import re

import msgspec

from proxy.policy.model import Lane, Priority, Tenant, Traffic
from proxy.routing.plan import Refusal

MAX_TAGS = 16

_LANES = {b"dedicated": Lane.DEDICATED, b"shared": Lane.SHARED, b"auto": None}
_TRAFFIC = {b"online": Traffic.ONLINE, b"offline": Traffic.OFFLINE}
_PRIORITIES = {priority.name.lower().encode(): priority for priority in Priority}
_NAME = re.compile(rb"[A-Za-z0-9._:/-]{1,128}")
"""What a policy takes for a name."""
_SESSION = re.compile(rb"[!-~]{1,128}")


class Wishes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The headers, read. `tags` are those that the request adds; the others None leave it to the policy."""

    lane: Lane | None = None
    target: str | None = None
    traffic: Traffic = Traffic.ONLINE
    priority: Priority | None = None
    session: str | None = None
    tags: frozenset[str] = frozenset()


NO_WISHES = Wishes()


def makes_wishes(fields: dict[bytes, bytes]) -> bool:
    """Whether any of the headers is there; most requests have none."""
    return (
        b"x-spillway-tags" in fields
        or b"x-spillway-lane" in fields
        or b"x-spillway-target" in fields
        or b"x-spillway-traffic" in fields
        or b"x-spillway-priority" in fields
        or b"x-spillway-session" in fields
    )


def read_wishes(tenant: Tenant, fields: dict[bytes, bytes]) -> Wishes | Refusal:
    """What the headers of a request of `tenant` ask for."""
    lane, target = fields.get(b"x-spillway-lane"), fields.get(b"x-spillway-target")
    traffic, tags = fields.get(b"x-spillway-traffic"), fields.get(b"x-spillway-tags")
    if lane is not None and (lane := lane.lower()) not in _LANES:
        return _refuse("the header `x-spillway-lane` must be dedicated, shared or auto", "x-spillway-lane")
    if traffic is not None and (traffic := traffic.lower()) not in _TRAFFIC:
        return _refuse("the header `x-spillway-traffic` must be online or offline", "x-spillway-traffic")
    if target is not None and not _NAME.fullmatch(target):
        return _refuse("the header `x-spillway-target` must be the name of a target", "x-spillway-target")
    session = fields.get(b"x-spillway-session")
    if session is not None and not _SESSION.fullmatch(session):
        return _refuse("the header `x-spillway-session` must be 1 to 128 visible characters", "x-spillway-session")
    priority = _read_priority(tenant, fields.get(b"x-spillway-priority"))
    if isinstance(priority, Refusal):
        return priority
    added = frozenset[str]() if tags is None else _read_tags(tenant, tags)
    if isinstance(added, Refusal):
        return added
    return Wishes(
        lane=None if lane is None else _LANES[lane],
        target=None if target is None else target.decode("ascii"),
        traffic=Traffic.ONLINE if traffic is None else _TRAFFIC[traffic],
        priority=priority,
        session=None if session is None else session.decode("ascii"),
        tags=added,
    )


def _read_priority(tenant: Tenant, value: bytes | None) -> Priority | Refusal | None:
    priority = None if value is None else _PRIORITIES.get(value.lower())
    if value is not None and priority is None:
        return _refuse("the header `x-spillway-priority` must be low, normal or high", "x-spillway-priority")
    if priority is None or priority <= tenant.priority:
        return priority
    return Refusal(
        status=403,
        code="priority_not_allowed",
        message=f"requests of tenant `{tenant.name}` have the priority `{tenant.priority.name.lower()}` at most",
        rule="priority",
        param="x-spillway-priority",
        retryable=False,
    )


def _read_tags(tenant: Tenant, value: bytes) -> frozenset[str] | Refusal:
    words = [word.strip(b" \t") for word in value.split(b",")]
    if len(words) > MAX_TAGS or not all(map(_NAME.fullmatch, words)):
        expected = f"at most {MAX_TAGS} names, with commas between them"
        return _refuse(f"the header `x-spillway-tags` must be {expected}", "x-spillway-tags")
    tags = frozenset([word.decode("ascii") for word in words])
    if tenant.request_tags is None or tags <= tenant.request_tags:
        return tags
    return Refusal(
        status=403,
        code="tag_not_allowed",
        message=f"tenant `{tenant.name}` does not let its callers add the tag `{min(tags - tenant.request_tags)}`",
        rule="tags",
        param="x-spillway-tags",
        retryable=False,
    )


def _refuse(message: str, param: str) -> Refusal:
    return Refusal(status=400, code="invalid_request", message=message, rule="request", param=param, retryable=False)
