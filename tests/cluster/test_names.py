"""What a name resolves to, by family; and that a resolver that fails is not one that says there is no such name."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from proxy.cluster.names import Addresses, NotResolved, lookup


def resolving(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def getaddrinfo(*args: object, **kwargs: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def entry(family: socket.AddressFamily, address: str) -> Any:
    return (family, socket.SOCK_STREAM, 6, "", (address, 0))


def test_addresses_are_told_apart_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [entry(socket.AF_INET, "10.0.0.1"), entry(socket.AF_INET, "10.0.0.1"), entry(socket.AF_INET6, "fd00::1")]
    resolving(monkeypatch, found)
    assert lookup("vllm") == Addresses(ipv4=frozenset({"10.0.0.1"}), ipv6=frozenset({"fd00::1"}))


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (socket.gaierror(socket.EAI_NONAME, "name not known"), True),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), False),
        (socket.gaierror(socket.EAI_FAIL, "failed"), False),
        (OSError("too many files"), False),
        (UnicodeError("label too long"), False),
    ],
)
def test_who_does_not_answer_does_not_say_that_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, error: Exception, gone: bool
) -> None:
    resolving(monkeypatch, error)
    with pytest.raises(NotResolved) as not_resolved:
        lookup("vllm")
    assert not_resolved.value.gone is gone


def test_an_address_resolves_to_itself() -> None:
    assert lookup("127.0.0.1") == Addresses(ipv4=frozenset({"127.0.0.1"}))
