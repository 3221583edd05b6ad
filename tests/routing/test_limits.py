"""Which limits a request is held against, and what is said when one is used up."""

from __future__ import annotations

from dataclasses import replace

from proxy.policy.model import UNLIMITED, Endpoint, Key, Limits, Mode, Route, Rules, Tenant
from proxy.routing import limits, refusals
from proxy.routing.readings import Rate
from proxy.routing.rules import ASSUMED_OUTPUT_TOKENS
from tests.routing.policies import TENANT, dedicated, facts, snapshot

ONE = Limits(rpm=1)


def test_a_route_is_held_under_each_of_its_rules_that_has_limits() -> None:
    route = Route(name="r", require=Rules(limits=ONE), shadow_want=Rules(limits=Limits(tpm=1)))
    held = limits.of_route(route)
    assert [(one.scope, one.rule, one.manner) for one in held] == [
        ("route:r", "require", limits.Manner.REQUIRE),
        ("route:r", "want", limits.Manner.SHADOW),
    ]
    assert limits.scopes(held) == ("route:r", "shadow.want.route:r")
    assert limits.of_route(Route(name="free")) == ()


def test_a_caller_is_held_by_tenant_and_by_key() -> None:
    tenant = Tenant(name="bank", limits=ONE)
    key = Key(tenant=tenant, name="bank/ci", limits=Limits(rpm=1, mode=Mode.SHADOW))
    held = limits.of_caller(facts(tenant=tenant, key=key))
    assert [(one.scope, one.manner) for one in held] == [
        ("tenant:bank", limits.Manner.REQUIRE),
        ("key:bank/ci", limits.Manner.SHADOW),
    ]
    assert limits.of_caller(facts()) == ()
    assert TENANT.limits is UNLIMITED


def test_all_scopes_are_asked_and_the_first_that_refuses_is_told() -> None:
    held = tuple(limits.Held(f"s{n}", "require", ONE, manner) for n, manner in enumerate(limits.Manner))
    rates = {one.scope: Rate(requests=1) for one in held}
    verdict = limits.judge((*held, held[0]), facts(), rates)
    assert verdict.refused is not None
    assert verdict.refused.among == ("", "", "", "")
    assert (verdict.refused.held.scope, verdict.refused.limit) == ("s0", "rpm")
    assert [one.hard for one in verdict.wanted] == [False]
    assert len(verdict.shadow) == 1


def test_tokens_are_estimated_with_the_output_that_a_request_allows_itself() -> None:
    assert limits.estimated_tokens(facts(input_tokens=10, max_output_tokens=5)) == 15
    assert limits.estimated_tokens(facts(input_tokens=10)) == 10 + ASSUMED_OUTPUT_TOKENS
    assert limits.estimated_tokens(facts(input_tokens=10, endpoint=Endpoint.EMBEDDINGS)) == 10


def test_all_limits_of_a_policy_but_those_of_its_targets() -> None:
    tenant = Tenant(name="bank", limits=ONE)
    keys = {bytes([n]): Key(tenant=tenant, name="bank/ci", limits=Limits(tpm=1)) for n in range(2)}
    route = Route(name="r", require=Rules(limits=ONE), want=Rules(limits=ONE))
    tenants = {"bank": tenant, "free": Tenant(name="free")}
    found = replace(snapshot([dedicated()], [route]), tenants=tenants, keys=keys)
    assert list(dict.fromkeys(one.bucket for one in limits.of_policy(found))) == [
        "tenant:bank",
        "key:bank/ci",
        "route:r",
        "want.route:r",
    ]


def test_a_bucket_that_is_known_says_more_than_its_scope() -> None:
    held = limits.of_route(Route(name="r", require=Rules(limits=ONE), want=Rules(limits=ONE)))
    full, wanted = Rate(requests=1), {"want.route:r": Rate()}
    assert limits.judge(held, facts(), {"route:r": full}).wanted
    verdict = limits.judge(held, facts(), {"route:r": full, **wanted})
    assert verdict.refused is not None
    assert verdict.wanted == ()
    assumed = limits.given({**wanted, "tenant:x": full}, {"route:r": full})
    assert limits.judge(held, facts(), assumed).wanted
    assert assumed["tenant:x"] is full


def test_tokens_that_come_back_at_a_known_rate_say_when_there_is_room() -> None:
    held = (limits.Held("s", "tenant", Limits(tpm=6000), limits.Manner.REQUIRE, "s"),)
    rate = Rate(tokens=5900, tokens_per_s=100.0)
    small, large = facts(input_tokens=600, max_output_tokens=0), facts(input_tokens=60_000, max_output_tokens=0)
    for asked, waits_s in ((small, 5.0), (large, 59.0)):
        refused = limits.judge(held, asked, {"s": rate}).refused
        assert refused is not None
        assert refused.retry_after_s == waits_s
    assert limits.judge(held, large, {"s": Rate(tokens=0, tokens_per_s=100.0)}).refused is None


def test_what_others_hold_is_not_said_to_be_used() -> None:
    held = limits.of_route(Route(name="r", require=Rules(limits=Limits(rpm=60))))
    over = limits.judge(held, facts(), {"route:r": Rate(requests=60, requests_elsewhere=12)}).refused
    assert over is not None
    refusal = refusals.rate_limited(Route(name="r"), over)
    assert (
        refusal.message == "route `r` has used 48 of its 60 requests a minute, and other proxies hold 12 for the moment"
    )
    assert refusal.scopes == ("route:r",)
