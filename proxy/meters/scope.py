"""What one request is held against: the leases of one scope, and of all its scopes together.

Theory of operation
-------------------
A scope is a tenant, a key or a route, and has a lease for each rate that limits it. A request has up to three of them,
always the same ones for the same caller on the same route; what all of these have to be asked and told is made ready
once (`Together`), because it is asked and told for every request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.meters.contact import Contact
from proxy.meters.lease import MINUTE_S, Kind, Lease
from proxy.routing import limits
from proxy.routing.readings import Rate

PAUSE_S = 1.0
"""How often an idle lease asks for the rest of its part."""
MOVES_IN_S = 0.5
"""How long it takes until what is held elsewhere can be used here."""


class Scope:
    """The leases of what a request is held against in one place."""

    __slots__ = ("enforced", "held", "leases", "places", "requests", "tokens")

    def __init__(self, held: limits.Held) -> None:
        self.held = held
        self.enforced = held.manner is limits.Manner.REQUIRE
        self.requests: Lease | None = None
        self.tokens: Lease | None = None
        self.places: Lease | None = None
        self.leases: tuple[Lease, ...] = ()

    def put(self, leases: Iterable[Lease]) -> None:
        """These are all its leases from now on."""
        self.leases = tuple(leases)
        by_kind = {lease.kind: lease for lease in self.leases}
        self.requests, self.tokens = by_kind.get(Kind.REQUESTS), by_kind.get(Kind.TOKENS)
        self.places = by_kind.get(Kind.PLACES)

    def rate(self, now: float) -> Rate:
        """What of it may not be used here and now counts as used."""
        requests, tokens, places = self.requests, self.tokens, self.places
        used = 0 if requests is None else requests.used(now)
        used_tokens = 0 if tokens is None else tokens.used(now)
        used_places = 0 if places is None else places.used(now)
        moves, frees_in_s = 0, 0.0
        if requests is not None and used >= requests.limit:
            moves = requests.movable(used)
            frees_in_s = MOVES_IN_S if moves else MINUTE_S / requests.limit + PAUSE_S
        return Rate(
            requests=used,
            tokens=used_tokens,
            in_flight=used_places,
            frees_in_s=frees_in_s,
            tokens_per_s=0.0 if tokens is None else tokens.limit / MINUTE_S,
            requests_elsewhere=moves,
            tokens_elsewhere=0 if tokens is None else tokens.movable(used_tokens),
            in_flight_elsewhere=0 if places is None else places.movable(used_places),
        )


class Together:
    """All leases that one request takes from, by what it takes of them; a scope that is None is not known.

    `told` are those of the scopes that refuse, of which replies tell; `optional` says that one does not.
    """

    __slots__ = (
        "_contact",
        "_known",
        "_outage",
        "all",
        "optional",
        "places",
        "requests",
        "scopes",
        "settled",
        "tokens",
        "told_requests",
        "told_tokens",
    )

    def __init__(self, scopes: Sequence[Scope | None], contact: Contact) -> None:
        self._contact = contact
        self._known = None not in scopes
        self._outage = -1
        self.scopes = found = [one for one in scopes if one is not None]
        self.optional = not all(one.enforced for one in found)
        self.told_requests = tuple([one.requests for one in found if one.enforced and one.requests is not None])
        self.told_tokens = tuple([one.tokens for one in found if one.enforced and one.tokens is not None])
        self.requests = tuple([one.requests for one in found if one.requests is not None])
        self.tokens = tuple([one.tokens for one in found if one.tokens is not None])
        self.places = tuple([one.places for one in found if one.places is not None])
        self.settled = dict.fromkeys(self.tokens + self.places)
        self.all = self.settled | dict.fromkeys(self.requests)

    def fits(self, tokens: int, now: float) -> bool:
        """Whether every lease is sure to have what a request of that size takes."""
        contact = self._contact
        if now >= contact.calm_until or contact.outage != self._outage:
            for lease in self.all:
                lease.turn(now)
            self._outage = contact.outage
        for lease in self.requests:
            if lease.held < 1.0:
                return False
        for lease in self.tokens:
            if lease.held < tokens:
                return False
        for lease in self.places:
            if lease.held < lease.in_use + 1:
                return False
        return self._known

    def take(self, tokens: int) -> None:
        """A request is admitted."""
        for lease in self.requests:
            lease.take(1)
        for lease in self.tokens:
            lease.take(tokens)
        for lease in self.places:
            lease.take(1)

    def settle(self, taken: int, used: int) -> None:
        """It has ended."""
        for lease in self.tokens:
            lease.settle(taken, used)
        for lease in self.places:
            lease.settle(1, 0)
