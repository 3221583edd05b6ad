"""What is part of the bid: work that GPUs would do to save a known price, wherever it is done in the end."""

from __future__ import annotations

import pytest
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Candidate, Objective, Prefer, Route, Rules, Snapshot, Target, Traffic
from proxy.routing.decide import Router
from proxy.routing.plan import Refusal
from proxy.routing.predict import Steps
from proxy.routing.readings import NO_OUTLOOK, Outlook
from proxy.routing.wanted import Wanted, wanted
from tests.routing.policies import MODEL, dedicated, facts, price, shared

GPUS = dedicated("gpus", replicas=2, profile=ASSUMED)
DEAR, CHEAP = shared("dear", price=price(1.0)), shared("cheap", price=price(0.2))
WANT = Rules(objectives=(Objective(rule="itl_p99", field="itl_p99_s", limit_s=0.05),))

ALL = Route(name="all", want=WANT)


def of(*targets: Target, route: Route = ALL, outlook: Outlook = NO_OUTLOOK, **given: object) -> Wanted | None:
    candidates = tuple(Candidate(target=target, model=target.model) for target in targets)
    named = {target.name: target for target in targets}
    snapshot = Snapshot(digest="0" * 64, source="", targets=named, models={MODEL: candidates}, routes=(route,))
    request = facts(**({"input_tokens": 1000, "max_output_tokens": 200} | given))
    lawful = Router(snapshot).lawful_set(request)
    assert not isinstance(lawful, Refusal)
    return wanted(lawful, request, outlook)


def test_the_work_and_what_each_second_of_it_would_save_on_the_cheapest_lawful_target() -> None:
    found = of(DEAR, GPUS, CHEAP)
    work_s = Steps(GPUS).work_s(1000, 0, 200.0)
    assert found == Wanted("gpus", pytest.approx(1200 * 0.2 * 1000 / work_s), pytest.approx(work_s), 0.05)
    only_dear = Route(name="strict", want=WANT, require=Rules(tags=frozenset({"strict"})))
    tags = frozenset({"strict"})
    gpus, dear = dedicated("gpus", profile=ASSUMED, tags=tags), shared("dear", price=price(1.0), tags=tags)
    strict = of(gpus, CHEAP, dear, route=only_dear)
    assert strict is not None
    assert found is not None
    assert strict.density_nano_usd_per_s == pytest.approx(5 * found.density_nano_usd_per_s)


def test_what_a_replica_has_in_its_cache_is_no_work() -> None:
    found = of(GPUS, CHEAP, outlook=Outlook(output_tokens=50.0, hits={"gpus": (0, 512)}))
    work_s = Steps(GPUS).work_s(1000, 512, 50.0)
    assert found == Wanted("gpus", pytest.approx(1050 * 0.2 * 1000 / work_s), pytest.approx(work_s), 0.05)


def test_where_nothing_can_be_compared_nothing_is_wanted() -> None:
    assert of(GPUS) is None
    assert of(CHEAP) is None
    assert of(GPUS, shared("unpriced")) is None


def test_routes_that_do_not_go_by_cost_and_work_that_can_wait_are_no_part_of_it() -> None:
    assert of(GPUS, CHEAP, route=Route(name="fast", prefer=Prefer.LATENCY)) is None
    assert of(GPUS, CHEAP, traffic=Traffic.OFFLINE) is None
