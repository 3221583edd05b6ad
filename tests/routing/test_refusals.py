"""What refused callers are told: status and code for programs, words for people."""

from __future__ import annotations

import pytest
from proxy.policy.model import Lane, Route
from proxy.routing import refusals
from proxy.routing.plan import Exclusion, Refusal
from tests.routing.policies import MODEL, facts

ROUTE = Route(name="gdpr")
IN_US = Exclusion("together", "require.region", "us", "eu-*", True)
NO_CHAT = Exclusion("embedder", "endpoint", "chat", "embeddings", True)
EJECTED = Exclusion("llama-eu", "breaker", "open, next probe in 9.0 s", "closed", False)
FULL = Exclusion("llama-eu", "capacity", "64 of 64 in flight", "64 in flight", False)


def none_able(*left_out: Exclusion, barred: tuple[Exclusion, ...] = (), **asked: object) -> Refusal:
    return refusals.none_able(ROUTE, facts(**asked), barred, left_out, 2.0)


@pytest.mark.parametrize(
    ("refusal", "status", "code", "rule"),
    [
        (refusals.model_not_found("x"), 404, "model_not_found", "model"),
        (refusals.no_route(facts()), 403, "no_route", "match"),
        (refusals.lane_override_not_allowed(ROUTE, Lane.SHARED), 403, "lane_override_not_allowed", "lane_override"),
        (refusals.nothing_lawful(ROUTE, MODEL, (IN_US,)), 403, "residency_unsatisfiable", "require.region"),
        (refusals.nothing_lawful(ROUTE, MODEL, (NO_CHAT,)), 404, "endpoint_not_supported", "endpoint"),
        (refusals.nothing_lawful(ROUTE, MODEL, (IN_US, NO_CHAT)), 403, "residency_unsatisfiable", "require.region"),
        (none_able(EJECTED), 503, "no_target_available", "breaker"),
        (none_able(EJECTED, barred=(IN_US,)), 503, "no_lawful_target_available", "require.region"),
        (none_able(FULL), 503, "at_capacity", "capacity"),
        (none_able(EJECTED, FULL, barred=(IN_US,)), 503, "at_capacity", "capacity"),
        (none_able(FULL, lane_override=Lane.DEDICATED), 429, "dedicated_at_capacity", "capacity"),
        (none_able(FULL, lane_override=Lane.SHARED), 503, "at_capacity", "capacity"),
        (none_able(EJECTED, lane_override=Lane.DEDICATED), 503, "no_target_available", "breaker"),
    ],
)
def test_each_refusal_has_its_status_code_and_rule(refusal: Refusal, status: int, code: str, rule: str) -> None:
    assert (refusal.status, refusal.code, refusal.rule) == (status, code, rule)
    assert refusal.retryable is (status in (429, 503))
    assert refusal.message[0].islower()
    assert not refusal.message.endswith(".")


def test_a_message_names_the_route_what_was_left_out_and_what_the_policy_bars() -> None:
    assert none_able(EJECTED, barred=(IN_US,)).message == (
        "no target that route `gdpr` allows for model `llama-70b` can serve now: "
        "`llama-eu` breaker open, next probe in 9.0 s (wanted closed); "
        "the policy keeps it from `together` (require.region)"
    )


def test_a_refusal_lists_every_target_that_was_left_out() -> None:
    assert none_able(EJECTED, barred=(IN_US,)).excluded == (IN_US, EJECTED)


def test_an_endless_model_name_is_not_repeated_in_full() -> None:
    assert len(refusals.model_not_found("x" * 10**6).message) < 300
