"""A request in plain words, as a policy test, a command line or a line of the log has it, and the facts it amounts to.

Theory of operation
-------------------
What the words mean by themselves is read by the same shapes and parsers as a policy. What they mean under a policy (who
the tenant is, which tags it has) is settled against a snapshot, so that one request can be put to two policies. Nothing
here depends on the hour or on chance: a request that does not say when it comes, comes at `DEFAULT_AT_S`.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.policy import units, words
from proxy.policy.model import ANONYMOUS, NO_KEY, Endpoint, Key, Lane, Modality, Priority, Snapshot, Traffic
from proxy.policy.problem import Mistake
from proxy.policy.schema import Level
from proxy.policy.shape import key, listed, one
from proxy.policy.variables import revealed, shown
from proxy.policy.words import did_you_mean
from proxy.routing.facts import Facts

DEFAULT_AT_S = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
"""Monday, 5 January 2026, 12:00 UTC."""

DEFAULT_INPUT_TOKENS = 1000

END_OF_TIME_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""No later moment is in every time zone one that has a date."""

_EVERY_LANE = ("auto", *Lane)


def whole(value: object) -> int:
    """`0`, `64`, `2k`, `2M` -> a whole number of at least 0."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else units.count(value)


def moment(value: object) -> float:
    """`2026-01-05T12:00:00+01:00` -> Unix time in seconds; without an offset it is no moment."""
    hint = "write ISO 8601 with an offset, such as `2026-01-05T12:00:00+01:00` or `2026-01-05T12:00Z`"
    try:
        when = datetime.fromisoformat(str(revealed(value)))
    except ValueError:
        raise Mistake(f"not a moment: {shown(value)}", hint) from None
    if when.tzinfo is None:
        raise Mistake(f"a moment without an offset: {shown(value)}", hint)
    if not 0 <= when.timestamp() < END_OF_TIME_S:
        raise Mistake(f"a moment out of range: {shown(value)}", "from 1970 to 9998")
    return when.timestamp()


def chance(value: object) -> float:
    """A number from 0 up to but not including 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise Mistake(f"expected a number from 0 to below 1, got {shown(value)}", "write `0.5`")
    return float(value)


def lane(value: object) -> str:
    """What `x-spillway-lane` may say: a lane, or `auto`."""
    word = revealed(value)
    if word not in _EVERY_LANE:
        hint = did_you_mean(str(word), _EVERY_LANE)
        raise Mistake(f"expected one of `dedicated`, `shared`, `auto`, got {shown(value)}", hint)
    return str(word)


_NAMES = listed(one(words.text), or_one=True, may_be_empty=True)
_WORD = one(words.text)
_FLAG = one(words.flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked. `tags` are those that the request brings itself; `at` is Unix time; None is not stated."""

    model: str | None = key(_WORD, default=None)
    tenant: str | None = key(_WORD, default=None)
    tags: tuple[str, ...] | None = key(_NAMES, default=None)
    endpoint: Endpoint | None = key(one(words.one_of(Endpoint)), default=None)
    traffic: Traffic | None = key(one(words.one_of(Traffic)), default=None)
    stream: bool | None = key(_FLAG, default=None)
    modality: tuple[Modality, ...] | None = key(
        listed(one(words.one_of(Modality)), or_one=True, may_be_empty=True), default=None
    )
    tools: bool | None = key(_FLAG, default=None)
    input_tokens: int | None = key(one(whole), default=None)
    max_output_tokens: int | None = key(one(whole), default=None)
    priority: Level | None = key(one(words.one_of(Level)), default=None)
    lane: str | None = key(one(lane), default=None)
    target: str | None = key(_WORD, default=None)
    at: float | None = key(one(moment), default=None)
    draw: float | None = key(one(chance), default=None)
    key: str | None = key(_WORD, default=None)  # last: the name is the reader's until here


def misfits(request: Request, snapshot: Snapshot) -> Iterator[tuple[str, Mistake]]:
    """What makes no sense under the policy of `snapshot`, each with the name of the key that says it."""
    if request.model is None:
        yield "model", Mistake("`model` is missing", "write the name that apps ask for, such as `model: chat`")
    elif request.model not in snapshot.models:
        yield "model", _unknown("model", request.model, snapshot.models)
    if request.target is not None and request.target not in snapshot.targets:
        yield "target", _unknown("target", request.target, snapshot.targets)
    yield from _callers_misfits(request, snapshot)


def facts_of(request: Request, snapshot: Snapshot) -> Facts:
    """The facts of a request of which `misfits` says nothing."""
    return facts_under(request, key_of(request, snapshot) or NO_KEY)


def facts_under(request: Request, caller: Key) -> Facts:
    """The facts of a request that comes with the key `caller`."""
    return Facts(
        request_id="given",
        tenant=caller.tenant,
        key=caller,
        model=request.model or "",
        endpoint=request.endpoint or Endpoint.CHAT,
        stream=bool(request.stream),
        traffic=request.traffic or Traffic.ONLINE,
        input_tokens=DEFAULT_INPUT_TOKENS if request.input_tokens is None else request.input_tokens,
        max_output_tokens=request.max_output_tokens,
        priority=caller.tenant.priority if request.priority is None else Priority[request.priority.name],
        tags=caller.tags | frozenset(request.tags or ()),
        lane_override=Lane(request.lane) if request.lane in tuple(Lane) else None,
        target_override=request.target,
        modalities=frozenset(request.modality or ()) - {Modality.TEXT},
        tools=bool(request.tools),
        at_s=DEFAULT_AT_S if request.at is None else request.at,
    )


def key_of(request: Request, snapshot: Snapshot) -> Key | None:
    """`Callers.key_of` for a single request."""
    return Callers(snapshot).key_of(request)


class Callers:
    """The keys of a policy by the words that a request has for them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._tenants = snapshot.tenants
        self._named = {own.name: own for own in snapshot.keys.values() if own.name}
        self._of_tenant: dict[str, list[Key]] = {}
        for own in snapshot.keys.values():
            self._of_tenant.setdefault(own.tenant.name, []).append(own)

    def key_of(self, request: Request) -> Key | None:
        """The key that the request would come with, or None when the policy has no such tenant or key.

        A request that names its tenant and no key comes with the tenant's only key, or else with one that adds nothing.
        """
        if not self._tenants:
            return NO_KEY if request.tenant in (None, ANONYMOUS.name) and request.key is None else None
        if request.key is not None:
            named = self._named.get(request.key)
            return named if named is None or request.tenant in (None, named.tenant.name) else None
        tenant = self._tenants.get(request.tenant or "")
        if tenant is None:
            return None
        own = self._of_tenant.get(tenant.name, [])
        return own[0] if len(own) == 1 else Key(tenant=tenant, tags=tenant.tags)


def tags_misfits(request: Request, caller: Key) -> Iterator[tuple[str, Mistake]]:
    """Each tag that the key's tenant does not let a request add."""
    allowed = caller.tenant.request_tags
    if allowed is None:
        return
    for tag in sorted(set(request.tags or ()) - caller.tags - allowed):
        hint = did_you_mean(tag, allowed | caller.tags) or "list it under the tenant's `request_tags`"
        yield "tags", Mistake(f"tenant `{caller.tenant.name}` may not add the tag `{tag}`", hint)


def _priority_misfits(request: Request, caller: Key) -> Iterator[tuple[str, Mistake]]:
    highest = caller.tenant.priority
    if request.priority is not None and Priority[request.priority.name] > highest:
        message = f"requests of tenant `{caller.tenant.name}` have the priority `{highest.name.lower()}` at most"
        yield "priority", Mistake(message, "give the tenant that `priority`, or the request a lower one")


def _callers_misfits(request: Request, snapshot: Snapshot) -> Iterator[tuple[str, Mistake]]:
    if not snapshot.tenants:
        for name in ("tenant", "key"):
            given = getattr(request, name)
            if given not in (None, ANONYMOUS.name):
                yield name, Mistake(f"unknown {name} `{given}`", "the policy has no tenants: leave it out")
        return
    if request.tenant is not None and request.tenant not in snapshot.tenants:
        yield "tenant", _unknown("tenant", request.tenant, snapshot.tenants)
        return
    caller = key_of(request, snapshot)
    if caller is not None:
        yield from tags_misfits(request, caller)
        yield from _priority_misfits(request, caller)
    elif request.key is None:
        yield "tenant", Mistake("`tenant` is missing", did_you_mean("", snapshot.tenants) or "the policy has tenants")
    else:
        of_tenant = {one.name for one in snapshot.keys.values() if request.tenant in (None, one.tenant.name)} - {""}
        yield "key", _unknown("key", request.key, of_tenant)


def _unknown(kind: str, name: str, known: Iterable[str]) -> Mistake:
    return Mistake(f"unknown {kind} `{name}`", did_you_mean(name, known) or f"name a {kind} of the policy")
