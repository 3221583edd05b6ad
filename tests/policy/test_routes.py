"""Routes: read, in order, reachable, and with a lawful target."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Lane, Match, Prefer, Require, Route, Target, Traffic, Want
from proxy.policy.routes import covers, is_lawful
from proxy.routing.gates import Asked, barrier
from tests.policy.policies import DIGEST, compiled, messages, problems, two_lanes

TENANTS = f'tenants: {{bank: {{keys: ["{DIGEST}"], tags: [gdpr]}}}}\n'


def routes(tmp_path: Path, *written: str) -> tuple[Route, ...]:
    """The routes as compiled; a last one that matches everything is added."""
    lines = "\n".join(f"  - {{{one}}}" for one in (*written, "name: default"))
    return compiled(tmp_path, two_lanes(f"{TENANTS}routes:\n{lines}\n")).snapshot.routes


def said(tmp_path: Path, *written: str) -> list[str]:
    lines = "\n".join(f"  - {{{one}}}" for one in written)
    return messages(tmp_path, two_lanes(f"{TENANTS}routes:\n{lines}\n"))


def test_without_routes_one_takes_everything(tmp_path: Path) -> None:
    assert compiled(tmp_path, two_lanes("")).snapshot.routes == (Route(name="default"),)


def test_everything_that_a_route_says_is_compiled(tmp_path: Path) -> None:
    first, _ = routes(
        tmp_path,
        "name: r, match: {models: [m, own-only], endpoint: chat, tenant: bank, tags: gdpr, traffic: offline,"
        " stream: true}, require: {region: [eu-*, uk-*], retention: zero, lane: dedicated, tags: [iso]},"
        " want: {region: eu-west-1, lane: dedicated, ttft_p99: 800ms, itl_p99: 60ms, uptime: 99%, usd_per_mtok: 1.5},"
        " prefer: latency, lane_override: false, max_failovers: 0",
    )
    assert first == Route(
        name="r",
        match=Match(
            models=frozenset({"m", "own-only"}),
            endpoints=frozenset({Endpoint.CHAT}),
            tenants=frozenset({"bank"}),
            tags=frozenset({"gdpr"}),
            traffic=Traffic.OFFLINE,
            stream=True,
        ),
        require=Require(regions=("eu-*", "uk-*"), retention=("zero",), lane=Lane.DEDICATED, tags=frozenset({"iso"})),
        want=Want(
            regions=("eu-west-1",),
            lane=Lane.DEDICATED,
            ttft_p99_s=0.8,
            itl_p99_s=0.06,
            uptime=0.99,
            nano_usd_per_mtok=1_500_000_000,
        ),
        prefer=Prefer.LATENCY,
        lane_override=False,
        max_failovers=0,
    )


def test_a_retention_is_a_limit_and_not_a_word(tmp_path: Path) -> None:
    month, day, default = routes(
        tmp_path,
        "name: month, match: {model: m}, require: {retention: 720h}",
        "name: day, match: {tags: x}, require: {retention: 1d}",
    )
    assert month.require.retention == ("30d", "7d", "zero")
    assert day.require.retention == ("1d", "zero")
    assert default.require.retention == ()


def test_model_and_models_are_one_condition(tmp_path: Path) -> None:
    one, _ = routes(tmp_path, "name: r, match: {model: m, models: [own-only]}")
    assert one.match.models == frozenset({"m", "own-only"})


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: all", "name: some, match: {model: m}"),
        ("name: a, match: {models: [m, own-only]}", "name: b, match: {model: m}"),
        ("name: a, match: {tags: gdpr}", "name: b, match: {tags: [gdpr, x]}"),
        ("name: a, match: {stream: true}", "name: b, match: {stream: true, tenant: bank}"),
        ("name: a, match: {model: m}", "name: b, match: {model: m}"),
    ],
)
def test_a_route_behind_a_wider_one_is_never_reached(earlier: str, later: str, tmp_path: Path) -> None:
    said_of = said(tmp_path, earlier, later, "name: default")
    first, second = (one.partition("name: ")[2].partition(",")[0] for one in (earlier, later))
    assert said_of[0] == f"route `{second}` is never reached: `{first}` before it takes all its requests"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a, match: {model: m}", "name: b, match: {models: [m, own-only]}"),
        ("name: a, match: {tags: [gdpr, x]}", "name: b, match: {tags: gdpr}"),
        ("name: a, match: {stream: true}", "name: b, match: {stream: false}"),
        ("name: a, match: {traffic: offline}", "name: b, match: {model: m}"),
    ],
)
def test_a_route_that_takes_more_than_the_one_before_is_reached(earlier: str, later: str, tmp_path: Path) -> None:
    assert [route.name for route in routes(tmp_path, earlier, later)] == ["a", "b", "default"]


def test_the_last_route_takes_everything(tmp_path: Path) -> None:
    assert said(tmp_path, "name: r, match: {model: m}") == ["the last route does not match every request"]


@pytest.mark.parametrize(
    ("require", "message", "key"),
    [
        ("region: ap-*", "no target of this route's models has region `ap-*`", "region"),
        ("region: [ap-*, af-*]", "no target of this route's models has region `ap-*` or `af-*`", "region"),
        ("tags: [soc2]", "no target of this route's models has tags `soc2`", "tags"),
        ("region: us, tags: [iso]", "no target of this route's models passes all its gates together", "require"),
        ("region: us, retention: 1d", "no target of this route's models passes all its gates together", "require"),
    ],
)
def test_gates_that_nothing_passes_are_refused(require: str, message: str, key: str, tmp_path: Path) -> None:
    text = two_lanes(f"routes:\n  - name: default\n    require: {{{require}}}\n")
    (problem,) = problems(tmp_path, text)
    assert problem.message == message
    line = text.split("\n")[problem.line - 1]
    before = line[: problem.column - 1]
    assert before.rstrip().endswith(f"{key}:")


def test_a_model_that_a_route_can_only_refuse_is_a_warning(tmp_path: Path) -> None:
    result = compiled(tmp_path, two_lanes("routes: [{name: default, require: {lane: shared}}]"))
    assert [one.message for one in result.warnings if "refuses" in one.message] == [
        "route `default` refuses model `own-only`: it has no lawful target"
    ]


def test_a_tag_that_no_tenant_has_is_a_warning(tmp_path: Path) -> None:
    text = two_lanes(f"{TENANTS}routes: [{{name: r, match: {{tags: [gdrp]}}}}, {{name: default}}]")
    (warning,) = [one for one in compiled(tmp_path, text).warnings if "tag" in one.message]
    assert warning.message == "no tenant has the tag `gdrp`"
    assert warning.hint == "did you mean `gdpr`?"


NAMES = st.frozensets(st.sampled_from("abc"), min_size=1)
MATCHES = st.builds(
    Match,
    models=st.none() | NAMES,
    tenants=st.none() | NAMES,
    tags=st.frozensets(st.sampled_from("xy")),
    traffic=st.none() | st.sampled_from(Traffic),
    stream=st.none() | st.booleans(),
)
REQUESTS = [
    (model, tenant, tags, traffic, stream)
    for model in "abc"
    for tenant in "abc"
    for tags in (frozenset(), frozenset("x"), frozenset("y"), frozenset("xy"))
    for traffic in Traffic
    for stream in (False, True)
]


def takes(match: Match, request: tuple[str, str, frozenset[str], Traffic, bool]) -> bool:
    model, tenant, tags, traffic, stream = request
    return (
        (match.models is None or model in match.models)
        and (match.tenants is None or tenant in match.tenants)
        and match.tags <= tags
        and match.traffic in (None, traffic)
        and match.stream in (None, stream)
    )


@given(MATCHES, MATCHES)
def test_covering_means_taking_every_request_of_the_other(wide: Match, narrow: Match) -> None:
    if covers(wide, narrow):
        assert all(takes(wide, request) for request in REQUESTS if takes(narrow, request))


TARGETS = st.builds(
    Target,
    name=st.just("t"),
    lane=st.sampled_from(Lane),
    model=st.just("m"),
    region=st.sampled_from(["unknown", "eu-west-1", "eu-central-1", "us"]),
    retention=st.sampled_from(["unknown", "zero", "7d", "30d"]),
    tags=st.frozensets(st.sampled_from("xy")),
    native=st.just(frozenset(Endpoint)),
)
GATES = st.builds(
    Require,
    regions=st.lists(st.sampled_from(["eu-*", "us", "*", "u*"]), max_size=2).map(tuple),
    retention=st.lists(st.sampled_from(["zero", "7d"]), max_size=2).map(tuple),
    lane=st.none() | st.sampled_from(Lane),
    tags=st.frozensets(st.sampled_from("xy")),
)


@given(TARGETS, GATES)
def test_what_is_lawful_here_is_what_the_gates_let_pass(target: Target, require: Require) -> None:
    """A policy is refused for want of lawful targets by the same rule that a request would be."""
    assert is_lawful(target, require) == (barrier(target, Asked(require=require, endpoint=Endpoint.CHAT)) is None)
