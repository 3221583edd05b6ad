"""Requests are made up from whatever two policies tell apart, and no more of them than are wanted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from proxy.cases.compare import Side
from proxy.cases.generated import MAX_REQUESTS, generated, moments
from proxy.cases.request import Request, facts_of
from proxy.policy.model import Endpoint, Lane, Modality, Schedule, Snapshot, Traffic
from tests.cases.policies import OPEN, POLICY, compiled, digest

TARGETS = """version: 1
targets:
  own: {lane: dedicated, url: "http://own:8000/v1", model: up, region: eu-west-1}
"""


def policy(folder: Path, text: str) -> Snapshot:
    return compiled(folder, TARGETS + "models: {m: [own]}\n" + text)


def values(requests: tuple[Request, ...], name: str) -> set[object]:
    return {getattr(request, name) for request in requests}


def test_policies_that_tell_nothing_apart_need_one_request(tmp_path: Path) -> None:
    snapshot = policy(tmp_path, "")
    made = generated(snapshot, snapshot)
    assert len(made.requests) == made.possible == 1


def test_whatever_a_match_of_either_looks_at_is_varied(tmp_path: Path) -> None:
    before = policy(tmp_path, "routes: [{name: a, match: {traffic: offline, stream: true, tools: true}}, {name: b}]")
    after = policy(
        tmp_path,
        "routes: [{name: a, match: {modality: image, endpoint: embeddings, tags: [x]}, lane_override: false},"
        " {name: b, target_override: true}]",
    )
    requests = generated(before, after).requests
    assert values(requests, "traffic") == set(Traffic)
    assert values(requests, "stream") == values(requests, "tools") == {False, True}
    assert values(requests, "modality") >= {(), (Modality.IMAGE,)}
    assert values(requests, "endpoint") == set(Endpoint)
    assert values(requests, "tags") == {(), ("x",)}
    assert values(requests, "lane") == {None, *Lane}
    assert values(requests, "target") == {None, "own"}


def test_sizes_lie_on_both_sides_of_every_bound(tmp_path: Path) -> None:
    snapshot = compiled(
        tmp_path,
        OPEN.replace("region: us,", "region: us, context_window: 9000,")
        + "routes:\n  - {name: a, match: {input_tokens: {min: 8k, max: 32k}}}\n"
        "  - {name: b, want: {max_usd_per_request: 0.01}}\n",
    )
    sizes = values(generated(snapshot, snapshot).requests, "input_tokens")
    # $0.01 at $1/M input, less 1024 tokens of output at $2/M
    assert sizes == {1000, 7999, 8000, 32000, 32001, 9000, 9001, 7952, 7953}


def test_times_lie_around_every_span_on_a_day_of_it_and_on_another() -> None:
    schedule = Schedule(zone=UTC, days=frozenset({0, 1}), from_minute=540, to_minute=1080)
    told = [f"{datetime.fromtimestamp(at, UTC):%a %H:%M}" for at in moments(schedule)]
    assert told == [f"{day} {time}" for day in ("Mon", "Wed") for time in ("08:59", "09:00", "17:59", "18:00")]
    assert [schedule.covers(at) for at in moments(schedule)] == [False, True, True, False] + [False] * 4


def test_every_tenant_and_named_key_calls_and_brings_only_tags_that_it_may(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path)
    requests = generated(snapshot, snapshot).requests
    callers = {(request.tenant, request.key) for request in requests}
    assert callers == {("bank", None), ("bank", "bank/ci"), ("games", None)}
    assert values(requests, "tags") == {()}  # `gdpr` is the bank's own, and nobody else may add it


def test_a_tag_that_only_one_policy_gives_is_left_to_the_policies(tmp_path: Path) -> None:
    before, after = compiled(tmp_path), compiled(tmp_path, POLICY.replace("tags: [gdpr]\n", "tags: [hipaa]\n"))
    bank = [one for one in generated(before, after).requests if one.tenant == "bank" and one.model == "chat"]
    assert {Side(before, {"": {}}).view(one, "").route for one in bank} == {"eu"}
    assert {Side(after, {"": {}}).view(one, "").route for one in bank} == {"default"}


def test_opening_a_policy_to_everybody_is_seen(tmp_path: Path) -> None:
    closed, opened = compiled(tmp_path), compiled(tmp_path, OPEN + "auth: none\n")
    assert None in values(generated(closed, opened).requests, "tenant")
    assert None not in values(generated(closed, closed).requests, "tenant")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    tenants = "".join(f'  c{n}: {{keys: ["{digest(str(n))}"], tags: [g{n}]}}\n' for n in range(300))
    routes = "".join(f"  - {{name: r{n}, match: {{tags: [g{n}], stream: true, tools: true}}}}\n" for n in range(300))
    text = f"{TARGETS}models: {{m: [own]}}\ntenants:\n{tenants}routes:\n{routes}  - name: default\n"
    return compiled(tmp_path_factory.mktemp("large"), text)


def test_large_policies_are_sampled_from_end_to_end(large: Snapshot) -> None:
    made = generated(large, large)
    assert made.possible == 301 * 300 * 2 * 2 > MAX_REQUESTS
    assert 0 < len(made.requests) <= MAX_REQUESTS
    assert len(set(made.requests)) == len(made.requests)
    assert len(values(made.requests, "tenant")) == 300
    assert made == generated(large, large)


def test_every_route_is_met_however_large_the_policy(large: Snapshot) -> None:
    side = Side(large, {"": {}})
    met = {side.view(request, "").route for request in generated(large, large).requests}
    assert met == {route.name for route in large.routes}


def test_a_request_made_for_a_route_comes_to_it(tmp_path: Path) -> None:
    snapshot = compiled(
        tmp_path,
        POLICY.replace(
            "routes:\n",
            "routes:\n  - {name: narrow, match: {key: bank/ci, tags: [canary], stream: true, endpoint: messages,"
            " input_tokens: {min: 3k, max: 4k}, modality: [audio], tools: true, traffic: offline,"
            ' time: {days: sat, hours: "22:00-02:00", zone: Asia/Tokyo}}}\n',
        ),
    )
    first = generated(snapshot, snapshot).requests[0]
    assert (first.key, first.tags, first.input_tokens) == ("bank/ci", ("canary",), 3000)
    assert facts_of(first, snapshot).tags == {"gdpr", "eval", "canary"}
    assert Side(snapshot, {"": {}}).view(first, "").route == "narrow"
