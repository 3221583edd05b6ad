"""Of more terms than one question holds, every one gets its turn; a process that leaves tells of all."""

from __future__ import annotations

import orjson
import pytest
from proxy.meters import escrow
from proxy.meters.escrow import Escrow
from proxy.meters.part import Heard, Moment
from proxy.policy.cap import Cap, Per
from proxy.policy.model import Budget

BUDGETS = [Budget(name=f"b{n}", caps=(Cap(1_000_000, Per.DAY),)) for n in range(7)]
STORE_MS = 1_800_000_000_000


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Escrow:
    """Seven budgets of which three are told at a time; each has money in hand."""
    monkeypatch.setattr(escrow, "MAX_TERMS", 3)
    one = Escrow(lambda alert: None)
    one.adopt(BUDGETS)
    for now in (0.0, 0.2, 0.4):
        asked(one, now)
    return one


def asked(one: Escrow, now: float, *, last: bool = False) -> list[str]:
    """The budgets that one question is about; it is answered."""
    moment = Moment("s", now, STORE_MS + int(now * 1000), last)
    ask = one.ask(moment)
    entries = orjson.loads(ask.argument)
    assert len(ask.keys) == len(entries) + 1
    one.told([[1000, entry["used"], 1000, 0, [], []] for entry in entries], Heard(STORE_MS, 1, False), moment)
    return [key.split(":")[1] for key in ask.keys[1:]]


def spend(one: Escrow) -> None:
    for term in one.terms_of(BUDGETS):
        assert term.set_aside(10, 1.0, begun=False)
        term.settle(10, 10)


def test_all_that_change_all_the_time_are_told_in_turns(held: Escrow) -> None:
    seen: list[str] = []
    for turn in range(7):
        spend(held)
        found = asked(held, 1.0 + turn / 5)
        assert len(found) == 3
        seen += found
    assert min(seen.count(budget.name) for budget in BUDGETS) >= 2


def test_who_lacks_money_comes_first(held: Escrow) -> None:
    spend(held)
    (last,) = held.terms_of(BUDGETS[6:])
    assert not last.set_aside(2000, 1.0, begun=False)
    assert "b6" in asked(held, 1.0)


def test_who_leaves_tells_all(held: Escrow) -> None:
    spend(held)
    assert len(asked(held, 1.0, last=True)) == 7
