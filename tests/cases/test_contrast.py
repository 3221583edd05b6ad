"""Two policies over many requests: what is counted, and how it is told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from proxy.cases.compare import Side, full_readings
from proxy.cases.contrast import CHANGES, WHOSE, Contrast, contrast
from proxy.cases.contrast_report import Basis, as_json, described, told
from proxy.cases.generated import generated
from proxy.cases.request import DEFAULT_AT_S, Request
from proxy.policy.model import Endpoint, Snapshot, Traffic
from proxy.policy.problem import PolicyError
from tests.cases.policies import OPEN, POLICY, TENANTS, compiled

STATES = ("idle", "full")
BASIS = Basis(before="a.yaml", after="b.yaml", requests="2 requests", states=STATES)
LOOSE = POLICY.replace("require: {region: eu-*}, ", "")


def compared(before: Snapshot, after: Snapshot, requests: Counter[Request] | None = None) -> Contrast:
    sides = [Side(one, {"idle": {}, "full": full_readings(one)}) for one in (before, after)]
    return contrast(requests or Counter(generated(before, after).requests), STATES, *sides)


def words(found: Contrast, heading: str) -> dict[str, int]:
    return {name: group.count for name, group in found.groups[heading].items()}


@pytest.fixture
def loosened(tmp_path: Path) -> Contrast:
    bank, games = Request(model="chat", tenant="bank"), Request(model="chat", tenant="games")
    return compared(compiled(tmp_path), compiled(tmp_path, LOOSE), Counter({bank: 3, games: 1}))


def test_what_changes_is_counted_by_what_and_whose(loosened: Contrast) -> None:
    assert (loosened.requests, loosened.decisions, loosened.changed, loosened.widened) == (4, 8, 6, 3)
    assert words(loosened, "refusal") == {"503 at_capacity -> served": 3}
    assert words(loosened, "fallbacks") == {"none -> api": 3}
    assert words(loosened, "by route") == {"eu": 6}
    assert words(loosened, "by lane") == {"dedicated": 3, "refused -> shared": 3}
    assert words(loosened, "by tenant") == {"bank": 6}
    (spread,) = loosened.spreads.values()
    assert (spread.kind, spread.value, spread.tenant, spread.route) == ("region", "us", "bank", "eu")
    assert (spread.count, spread.targets) == (3, {"api"})


def test_costs_are_summed_where_both_serve(tmp_path: Path) -> None:
    games = Counter({Request(model="overflow", tenant="games", input_tokens=1000, max_output_tokens=1000): 2})
    dearer = POLICY.replace("output: 2", "output: 4")
    found = compared(compiled(tmp_path), compiled(tmp_path, dearer), games)
    assert (found.money.decisions, found.money.before_nano_usd, found.money.after_nano_usd) == (
        4,
        12_000_000,
        20_000_000,
    )
    assert words(found, "cost") == {"api": 4}
    unpriced = compared(
        compiled(tmp_path), compiled(tmp_path, POLICY.replace(", price: {input: 1, output: 2}", "")), games
    )
    assert (unpriced.money.decisions, unpriced.money.unpriced) == (0, 4)


def test_it_is_told_with_what_widens_first(loosened: Contrast) -> None:
    lines = list(told(loosened, BASIS))
    assert lines[:2] == ["a.yaml -> b.yaml", "2 requests, decided with idle and with full"]
    assert lines[2] == "WIDENS: 3 requests may go where they could not before"
    assert lines[3] == "  ! region `us`: 3 requests of tenant bank on route eu may reach `api`"
    assert lines[4] == "      e.g. model chat, tenant bank"
    assert lines[5] == "6 of 8 decisions change (75.0%)"
    assert "     e.g. model chat, tenant bank (full): 503 at_capacity -> api by eu" in lines


def test_what_is_stated_differently_is_told_though_no_decision_shows_it(tmp_path: Path) -> None:
    found = compared(compiled(tmp_path), compiled(tmp_path, POLICY.replace("ttft_p99: 2s", "ttft_p99: 1s")))
    assert (found.changed, found.widened, found.differs) == (0, 0, True)
    lines = list(told(found, BASIS))
    assert lines[-2:] == ["stated differently", "  route default want.ttft_p99: 2.00 s -> 1.00 s"]
    (term,) = as_json(found, BASIS)["terms"]
    assert term == {"subject": "route default", "term": "want.ttft_p99", "before": "2.00 s", "after": "1.00 s"}


def test_no_change_is_one_line(tmp_path: Path) -> None:
    found = compared(compiled(tmp_path), compiled(tmp_path))
    assert list(told(found, BASIS))[2:] == ["no change"]
    assert not found.differs


def test_programs_read_json(loosened: Contrast) -> None:
    read = json.loads(json.dumps(as_json(loosened, BASIS)))
    assert (read["changed"], read["decisions"], read["widened"]) == (6, 8, 3)
    assert read["widenings"][0]["targets"] == ["api"]
    assert read["changes"]["fallbacks"][0]["example"]["request"] == {"model": "chat", "tenant": "bank"}
    assert set(read["changes"]) == set(CHANGES)
    assert {f"by {name}" for name in read["summary"]} == set(WHOSE)


def test_a_request_is_described_by_what_is_unusual_about_it() -> None:
    assert described(Request(model="m", endpoint=Endpoint.CHAT, at=DEFAULT_AT_S, input_tokens=1000)) == "model m"
    unusual = Request(
        model="m",
        key="bank/ci",
        tags=("a", "b"),
        endpoint=Endpoint.MESSAGES,
        traffic=Traffic.OFFLINE,
        stream=True,
        tools=True,
        input_tokens=8000,
        lane="shared",
        target="own",
        at=DEFAULT_AT_S + 60,
    )
    assert described(unusual) == (
        "model m, key bank/ci, tags a b, messages, offline, streamed, with tools, 8,000 input tokens, "
        "lane shared, target own, Mon 2026-01-05 12:01 UTC"
    )


GATES = {
    "region": st.sampled_from(["eu-*", "us", "*"]),
    "retention": st.sampled_from(["zero", "30d"]),
    "lane": st.sampled_from(["dedicated", "shared"]),
    "training": st.just("false"),
    "usd_per_mtok": st.sampled_from(["1.2", "9"]),
    "max_usd_per_request": st.sampled_from(["0.001", "0.01"]),
    "ttft_p99": st.just("2s"),
}
MATCHES = st.sampled_from(
    ["", "match: {tags: [gdpr]}, ", "match: {stream: true}, ", "match: {input_tokens: {min: 2k}}, "]
)
TARGETS = OPEN.replace("region: us,", "region: us, retention: 7d,").replace(
    "region: eu-west-1", "region: eu-west-1\n    retention: zero\n    training: false"
)


def spelled(rules: dict[str, str]) -> str:
    return ", ".join(f'{name}: "{value}"' if "*" in value else f"{name}: {value}" for name, value in rules.items())


def routes(match: str, first: dict[str, str], second: dict[str, str]) -> str:
    listed = [f"{{name: a, {match}require: {{{spelled(first)}}}}}"] if match else []
    listed.append(f"{{name: b, require: {{{spelled(second)}}}}}")
    return f"routes: [{', '.join(listed)}]\n"


def compiled_or_rejected(folder: Path, text: str) -> Snapshot:
    """Gates that leave no target are mistakes in a policy, and nothing to compare."""
    try:
        return compiled(folder, text)
    except PolicyError:
        reject()


RULES = st.fixed_dictionaries({}, optional=GATES)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(match=MATCHES, first=RULES, second=RULES, added=st.sampled_from(sorted(GATES)), data=st.data())
def test_a_gate_more_never_widens_and_a_policy_does_not_differ_from_itself(
    tmp_path: Path, match: str, first: dict[str, str], second: dict[str, str], added: str, data: st.DataObject
) -> None:
    before = compiled_or_rejected(tmp_path, TARGETS + TENANTS + routes(match, first, second))
    stricter = {added: data.draw(GATES[added])} | second
    after = compiled_or_rejected(tmp_path, TARGETS + TENANTS + routes(match, first, stricter))
    assert not compared(before, before).differs
    assert compared(before, after).widened == 0
