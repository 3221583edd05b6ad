"""The tree of broken promises."""

from __future__ import annotations

import pytest
from proxy.routing.outcome import Failure
from proxy.upstream.errors import ConnectFailed, ConnectionBroken, ConnectTimedOut, ProtocolViolated, UpstreamError

TREE = {
    ConnectFailed: Failure.CONNECT,
    ConnectTimedOut: Failure.CONNECT_TIMEOUT,
    ConnectionBroken: Failure.BROKEN,
    ProtocolViolated: Failure.PROTOCOL,
}


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert set(UpstreamError.__subclasses__()) >= set(TREE)


@pytest.mark.parametrize("kind", TREE)
def test_a_broken_promise_may_be_mended_elsewhere_and_counts_against_the_target(kind: type[UpstreamError]) -> None:
    error = kind("because")
    assert (error.failure, error.detail, str(error)) == (TREE[kind], "because", "because")
    assert error.failure.retryable
    assert error.failure.unhealthy
