"""What is believed of a name, when resolvers forget it for a moment, or one family of it."""

from __future__ import annotations

from proxy.cluster.names import Addresses
from proxy.discovery.known_addresses import GONE_AFTER, NOBODY, KnownAddresses


def v4(*addresses: str) -> Addresses:
    return Addresses(ipv4=frozenset(addresses))


def test_what_a_name_resolves_to_is_believed_at_once() -> None:
    known = KnownAddresses()
    assert known.addresses is None
    assert known.answer(v4("10.0.0.1"))
    assert not known.answer(v4("10.0.0.1"))
    assert known.answer(v4("10.0.0.2", "10.0.0.3"))
    assert known.addresses == {"10.0.0.2", "10.0.0.3"}


def test_that_there_is_none_is_believed_when_said_several_times_in_a_row() -> None:
    known = KnownAddresses()
    known.answer(v4("10.0.0.1"))
    for _ in range(3):
        assert [known.answer(NOBODY) for _ in range(GONE_AFTER - 1)] == [False] * (GONE_AFTER - 1)
        assert not known.answer(v4("10.0.0.1"))
    assert [known.answer(NOBODY) for _ in range(GONE_AFTER)] == [False] * (GONE_AFTER - 1) + [True]
    assert known.addresses == frozenset()


def test_of_a_name_that_was_never_seen_it_is_believed_at_once() -> None:
    known = KnownAddresses()
    assert known.answer(NOBODY)
    assert known.addresses == frozenset()
    assert not known.answer(NOBODY)
    assert known.answer(v4("10.0.0.1"))


def test_pods_of_two_families_are_counted_once() -> None:
    known = KnownAddresses()
    both = Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1"}))
    known.answer(both)
    assert known.addresses == {"10.0.0.1"}
    one_more = Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1", "fd00::2"}))
    assert not known.answer(one_more)
    assert known.answer(Addresses(ipv4=frozenset({"10.0.0.1", "10.0.0.2"}), ipv6=one_more.ipv6))


def test_a_family_that_is_missing_for_a_moment_changes_nothing() -> None:
    known = KnownAddresses()
    known.answer(Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1"})))
    half = Addresses(ipv6=frozenset({"fd00::1"}))
    assert [known.answer(half) for _ in range(GONE_AFTER)] == [False] * (GONE_AFTER - 1) + [True]
    assert known.addresses == {"fd00::1"}
    assert not known.answer(Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1"})))


def test_the_family_with_more_addresses_is_the_one_that_pods_have() -> None:
    known = KnownAddresses()
    known.answer(Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1", "fd00::2"})))
    assert known.addresses == {"fd00::1", "fd00::2"}
