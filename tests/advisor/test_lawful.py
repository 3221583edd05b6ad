"""What each app may use: residency leaves only the compliant, and a model of one's own leaves nobody."""

from __future__ import annotations

from dataclasses import replace

from proxy.advisor.lawful import Lawfully, lawfully, models_of, objectives
from proxy.advisor.trace import App
from proxy.policy.model import Candidate, Match, Objective, Route, Rules, Target, Tenant
from proxy.routing.decide import Router
from tests.advisor.weeks import price
from tests.harness import dedicated, shared, snapshot_of

GPU = dedicated("gpu", "http://gpu/v1")
EU = shared("eu-api", region="eu-west-1", price=price(0.9, 0.9))
US = shared("us-api", price=price(0.2, 0.4))
UNPRICED = shared("no-price", price=None)
ROUTES = (
    Route(
        name="gdpr",
        match=Match(tags=frozenset({"gdpr"})),
        require=Rules(regions=("eu-*",), objectives=(Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=1.0),)),
    ),
    Route(name="default"),
)


def found(app: App, *targets: Target) -> Lawfully:
    snapshot = snapshot_of(*targets, routes=ROUTES, bank=Tenant(name="bank", tags=frozenset({"gdpr"})))
    return lawfully(Router(snapshot), snapshot, GPU, app)


def test_who_may_use_anything_may_use_all_that_have_a_price() -> None:
    free = found(App(name="chat"), GPU, EU, US, UNPRICED)
    assert free.dedicated
    assert {one.target for one in free.shared} == {"eu-api", "us-api"}
    assert free.unpriced == ("no-price",)


def test_residency_leaves_the_compliant_ones() -> None:
    for app in (App(name="tagged", tags=frozenset({"gdpr"})), App(name="by tenant", tenant="bank")):
        assert [one.target for one in found(app, GPU, EU, US).shared] == ["eu-api"]


def test_a_dedicated_target_abroad_may_not_serve_them() -> None:
    abroad = dedicated("gpu", "http://gpu/v1", region="us-east-1")
    assert not found(App(name="tagged", tags=frozenset({"gdpr"})), abroad, EU).dedicated


def test_where_no_shared_target_is_lawful_there_is_none() -> None:
    assert found(App(name="tagged", tags=frozenset({"gdpr"})), GPU, US).shared == ()


def test_a_model_that_the_policy_does_not_have_is_taken_for_the_targets_first() -> None:
    assert found(App(name="chat", model="unheard-of"), GPU, US) == found(App(name="chat", model="m"), GPU, US)


def test_another_model_is_not_the_targets_work() -> None:
    other = dedicated("other", "http://other/v1")
    snapshot = snapshot_of(GPU, US)
    snapshot = replace(snapshot, models={**snapshot.models, "b": (Candidate(target=other, model="up"),)})
    assert not lawfully(Router(snapshot), snapshot, GPU, App(name="chat", model="b")).dedicated


def test_models_are_the_public_ones() -> None:
    assert models_of(snapshot_of(GPU, US), GPU) == ("m",)


def test_objectives_are_the_tightest_of_those_that_it_serves() -> None:
    tagged = found(App(name="tagged", tags=frozenset({"gdpr"})), GPU, EU)
    plain = found(App(name="chat"), GPU, EU)
    assert objectives((tagged, plain), 0.05) == (1.0, 0.05)
    assert objectives((plain,), 0.05) == (2.0, 0.05)
