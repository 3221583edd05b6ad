"""The words of a request: times, chances, lanes, and whose key it comes with."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cases.request import DEFAULT_AT_S, Request, chance, facts_of, key_of, lane, misfits, moment, whole
from proxy.policy.model import Priority, Snapshot
from proxy.policy.problem import Mistake
from proxy.policy.schema import Level
from tests.cases.policies import POLICY, compiled


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def test_a_moment_needs_an_offset() -> None:
    assert moment("2026-01-05T12:00:00Z") == moment("2026-01-05T13:00+01:00") == DEFAULT_AT_S
    with pytest.raises(Mistake, match="a moment without an offset"):
        moment("2026-01-05T12:00:00")
    with pytest.raises(Mistake, match="not a moment: `noon`"):
        moment("noon")
    for unusual in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"):
        with pytest.raises(Mistake, match="out of range"):
            moment(unusual)


def test_counts_begin_at_nothing() -> None:
    assert [whole(value) for value in (0, "0", 3, "2k")] == [0, 0, 3, 2000]
    with pytest.raises(Mistake):
        whole(False)


def test_a_draw_is_from_zero_to_below_one() -> None:
    assert chance(0) == 0.0
    for wrong in (1, -0.1, True, "0.5"):
        with pytest.raises(Mistake, match="from 0 to below 1"):
            chance(wrong)


def test_a_lane_may_be_left_to_the_route(snapshot: Snapshot) -> None:
    assert facts_of(Request(model="chat", tenant="games", lane=lane("auto")), snapshot).lane_override is None
    with pytest.raises(Mistake, match="expected one of") as raised:
        lane("share")
    assert raised.value.hint == "did you mean `shared`?"


def test_a_tenant_comes_with_its_only_key_or_one_that_adds_nothing(snapshot: Snapshot) -> None:
    games, bank = (key_of(Request(tenant=name), snapshot) for name in ("games", "bank"))
    assert games in snapshot.keys.values()
    assert bank is not None
    assert (bank.tenant.name, bank.name, bank.tags) == ("bank", "", {"gdpr"})


def test_a_tag_that_the_key_has_anyway_may_be_said(snapshot: Snapshot) -> None:
    assert list(misfits(Request(model="chat", tenant="bank", tags=("gdpr", "canary")), snapshot)) == []


def test_all_misfits_are_told(snapshot: Snapshot) -> None:
    request = Request(model="x", tenant="bank", target="y", tags=("z",))
    assert [name for name, _ in misfits(request, snapshot)] == ["model", "target", "tags"]


def test_a_priority_is_the_tenants_unless_the_request_asks_for_less(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, POLICY.replace("tags: [gdpr]\n", "tags: [gdpr]\n    priority: high\n", 1))
    plain, low = (Request(model="chat", tenant="bank", priority=asked) for asked in (None, Level.LOW))
    assert [facts_of(one, snapshot).priority for one in (plain, low)] == [Priority.HIGH, Priority.LOW]


def test_a_priority_above_the_tenants_makes_no_sense(snapshot: Snapshot) -> None:
    ((name, mistake),) = misfits(Request(model="chat", tenant="bank", priority=Level.HIGH), snapshot)
    assert (name, mistake.message) == ("priority", "requests of tenant `bank` have the priority `normal` at most")
