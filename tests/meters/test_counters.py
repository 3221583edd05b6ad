"""A slot on the wire; what the store makes of it is in test_store."""

from __future__ import annotations

from proxy.meters.counters import Counters
from proxy.meters.ledger import Ledger
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.meters.summary import summarise
from tests.meters.examples import asked, facts, outcome


async def test_what_was_settled_is_stored_once(store: Store) -> None:
    ledger = Ledger()
    counters = Counters("one", ledger)
    ledger.settle(facts(), outcome())
    assert not counters.settled
    await asked(store, counters)
    counters.ask(Moment("one", 0.0, None))
    counters.unheard(Moment("one", 0.0, None))
    await asked(store, counters)
    assert counters.settled
    assert summarise(await store.read_totals()).all()["requests"] == 1
