"""What the others have in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.meters.gauges import Gauges
from proxy.meters.part import Moment
from proxy.meters.store import Store
from tests.meters.examples import asked


class Shown:
    """One process's gauges."""

    def __init__(self, **counts: int) -> None:
        self.counts = {f"llama/{name[1:]}": count for name, count in counts.items()}
        self.others: Mapping[str, int] = {}
        self.part = Gauges(lambda: self.counts, self._absorb)

    def _absorb(self, others: Mapping[str, int]) -> None:
        self.others = others


async def test_everybody_sees_the_sum_of_the_others(store: Store) -> None:
    one, two, three = Shown(_0=3), Shown(_0=2, _1=1), Shown(_1=0)
    await asked(store, one.part, "one")
    await asked(store, two.part, "two")
    await asked(store, three.part, "three")
    await asked(store, one.part, "one")
    assert three.others == {"llama/0": 5, "llama/1": 1}
    assert one.others == {"llama/0": 2, "llama/1": 1}
    assert one.part.everywhere() == {"llama/0": 5, "llama/1": 1}


async def test_they_are_withdrawn_or_expire(store: Store, raw: Any, namespace: str) -> None:
    one, two, three = Shown(_0=3), Shown(_0=1), Shown()
    await asked(store, one.part, "one")
    await asked(store, one.part, "one", last=True)
    await asked(store, two.part, "two")
    assert two.others == {}
    seconds, _ = await raw.time()
    await raw.hset(f"{{{namespace}}}:2:gauges", "two", f'{seconds * 1000 - 1} {{"llama/0":1}}')
    await asked(store, three.part, "three")
    assert three.others == {}
    assert await raw.hkeys(f"{{{namespace}}}:2:gauges") == ["three"]


async def test_while_the_store_is_away_nothing_is_assumed_of_the_others(store: Store) -> None:
    one, two = Shown(_0=3), Shown(_0=2)
    await asked(store, one.part, "one")
    await asked(store, two.part, "two")
    two.part.unheard(Moment("two", 0.0, None))
    assert two.part.everywhere() == {"llama/0": 2}
