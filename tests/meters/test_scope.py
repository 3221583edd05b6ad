"""What is made ready for all of a request's scopes says and does what each of their leases would by itself."""

from __future__ import annotations

import pytest
from proxy.meters.contact import Contact
from proxy.meters.lease import Kind, Lease
from proxy.meters.scope import Scope, Together
from proxy.policy.model import Limits
from proxy.routing.limits import Held, Manner

NOW = 10.0


def scope(contact: Contact, name: str, manner: Manner = Manner.REQUIRE) -> Scope:
    """A scope with ten requests, a thousand tokens and two places, all of them in hand."""
    held = Held(name, "tenant", Limits(rpm=10, tpm=1000, concurrency=2), manner, name)
    found = Scope(held)
    leases = [
        Lease(f"{name} {kind}", kind, limit, contact, enforced=manner is Manner.REQUIRE, now=NOW)
        for kind, limit in ((Kind.REQUESTS, 10), (Kind.TOKENS, 1000), (Kind.PLACES, 2))
    ]
    for lease in leases:
        lease.held = float(lease.limit)
    found.put(leases)
    return found


@pytest.fixture
def contact() -> Contact:
    one = Contact(1, NOW)
    one.answered(1, 1_000_000, 1, away=False, sent_at=NOW, now=NOW)
    return one


def test_a_request_takes_of_every_lease_and_gives_back_at_its_end(contact: Contact) -> None:
    tenant, route = scope(contact, "tenant:t"), scope(contact, "route:r")
    both = Together([tenant, route], contact)
    assert both.fits(600, NOW)
    both.take(600)
    assert [(one.requests.held, one.tokens.held, one.places.in_use) for one in (tenant, route)] == [(9, 400, 1)] * 2
    assert not both.fits(600, NOW)
    assert both.fits(400, NOW)
    both.settle(600, 900)
    assert [(one.requests.held, one.tokens.held, one.places.in_use) for one in (tenant, route)] == [(9, 100, 0)] * 2


@pytest.mark.parametrize("kind", ["requests", "tokens", "places"])
def test_one_lease_that_lacks_is_enough(contact: Contact, kind: str) -> None:
    tenant, route = scope(contact, "tenant:t"), scope(contact, "route:r")
    both = Together([tenant, route], contact)
    assert both.fits(1, NOW)
    getattr(route, kind).held = 0.0
    assert not both.fits(1, NOW)


def test_a_scope_that_is_not_known_has_to_be_looked_at(contact: Contact) -> None:
    assert not Together([scope(contact, "tenant:t"), None], contact).fits(1, NOW)


def test_what_leaks_while_the_store_is_silent_is_not_there_any_more(contact: Contact) -> None:
    tenant = scope(contact, "tenant:t")
    both = Together([tenant], contact)
    contact.answered(2, 100_000, 10, away=True, sent_at=NOW, now=NOW)
    assert both.fits(1000, NOW)
    assert not both.fits(1000, NOW + 1.0)
    assert both.fits(500, NOW + 1.0)


def test_whether_a_limit_does_not_refuse_and_whose_headers_are_sent(contact: Contact) -> None:
    tenant, wish = scope(contact, "tenant:t"), scope(contact, "want.route:r", Manner.WANT)
    assert not Together([tenant], contact).optional
    mixed = Together([tenant, wish], contact)
    assert mixed.optional
    assert (mixed.told_requests, mixed.told_tokens) == ((tenant.requests,), (tenant.tokens,))
