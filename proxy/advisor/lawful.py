"""Which part of a demand a dedicated target may serve, and which shared targets could serve it instead.

Theory of operation
-------------------
The policy's own gates say so: each app is put to the router as a request would be. An app that names no model, or none
that the policy has, is taken to ask for the first public model that the target serves. What the gates need to know of a
single request (how long it is, say) is not asked here: all that may pass does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.advisor.trace import App
from proxy.advisor.value import Shared
from proxy.policy.model import ANONYMOUS, Key, Lane, Snapshot, Target
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.routing.predict import DEFAULT_TTFT_S, Aims


@dataclass(frozen=True, slots=True, kw_only=True)
class Lawfully:
    """What is lawful for one app: whether the dedicated target is, and which shared ones with a price.

    `unpriced` are those that nobody knows the price of; `aims` what its route wants of the first token and the gap.
    """

    dedicated: bool
    shared: tuple[Shared, ...] = ()
    unpriced: tuple[str, ...] = ()
    aims: Aims = field(default_factory=Aims)


NOWHERE = Lawfully(dedicated=False)


def lawfully(router: Router, snapshot: Snapshot, target: Target, app: App) -> Lawfully:
    """What `snapshot` allows the requests of `app`, as far as `target` is concerned."""
    model = app.model if app.model in snapshot.models else next(iter(models_of(snapshot, target)), "")
    tenant = snapshot.tenants.get(app.tenant, ANONYMOUS)
    key = Key(tenant=tenant, name=app.key, tags=tenant.tags)
    found = router.lawful_set(
        Facts(
            request_id="",
            tenant=tenant,
            model=model,
            endpoint=app.endpoint,
            stream=app.stream,
            traffic=app.traffic,
            tags=app.tags | tenant.tags,
            key=key,
            priority=tenant.priority if app.priority is None else app.priority,
        )
    )
    if isinstance(found, Refusal):
        return NOWHERE
    there = [entry.target for entry in found.entries]
    shared = [one for one in there if one.lane is Lane.SHARED]
    return Lawfully(
        dedicated=any(one.name == target.name for one in there),
        shared=tuple(
            Shared(target=one.name, provider=one.provider or "", price=one.price)
            for one in shared
            if one.price is not None
        ),
        unpriced=tuple(one.name for one in shared if one.price is None),
        aims=found.aims,
    )


def models_of(snapshot: Snapshot, target: Target) -> tuple[str, ...]:
    """The public models that `target` serves."""
    return tuple(name for name, some in snapshot.models.items() if any(one.target.name == target.name for one in some))


def objectives(apps: tuple[Lawfully, ...], itl_s: float) -> tuple[float, float]:
    """The tightest wait for the first token, and gap, that any of them is promised; `itl_s` where no route says."""
    there = [one.aims for one in apps if one.dedicated]
    ttft_s = min((one.ttft_s for one in there if one.ttft_s < float("inf")), default=DEFAULT_TTFT_S)
    gap_s = min((one.itl_s for one in there), default=itl_s)
    return ttft_s, gap_s if gap_s < float("inf") else itl_s
