"""Routes: read, in order, reachable, and with a lawful target."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import (
    Endpoint,
    Hedge,
    Lane,
    Limits,
    Match,
    Modality,
    Objective,
    Prefer,
    Quantile,
    Route,
    Rules,
    Schedule,
    Traffic,
)
from proxy.policy.reach import covers
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
        " prefer: latency, lane_override: false, max_failovers: 0, wait: 30s, deadline: 6h,"
        " hedge: {after: p90, budget: 2%}",
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
        require=Rules(regions=("eu-*", "uk-*"), retention=("zero",), lane=Lane.DEDICATED, tags=frozenset({"iso"})),
        want=Rules(
            regions=("eu-west-1",),
            lane=Lane.DEDICATED,
            objectives=(
                Objective(rule="itl_p99", field="itl_p99_s", limit_s=0.06),
                Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=0.8),
            ),
            uptime=0.99,
            nano_usd_per_mtok=1_500_000_000,
        ),
        prefer=Prefer.LATENCY,
        lane_override=False,
        max_failovers=0,
        wait_s=30.0,
        deadline_s=6 * 3600.0,
        hedge=Hedge(after=Quantile.P90, budget_share=0.02),
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
        ("region: ap-*", "no target of this route's models has region `ap-*`: they have `eu-west-1`, `us`", "region"),
        (
            "region: [ap-*, af-*]",
            "no target of this route's models has region `ap-*, af-*`: they have `eu-west-1`, `us`",
            "region",
        ),
        ("tags: [soc2]", "no target of this route's models has tags `soc2`: they have `iso`, `none`", "tags"),
        ("training: false", "no target of this route's models has training `false`: they have `unknown`", "training"),
        (
            "quantization: fp8",
            "no target of this route's models has quantization `fp8`: they have `unknown`",
            "quantization",
        ),
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


def rules(tmp_path: Path, written: str) -> Route:
    return routes(tmp_path, f"name: r, match: {{model: m}}, {written}")[0]


def test_every_rule_may_be_required_and_wanted_alike(tmp_path: Path) -> None:
    written = (
        "{region: [us, eu-*], retention: 7d, training: {is: false, mode: shadow},"
        " quantization: {is: fp8, mode: shadow},"
        " usd_per_mtok: {is: 1.5, mode: shadow}, max_usd_per_request: 0.05, uptime: 99%, ttft_p50: 1s, e2e_p95: 9s,"
        " itl_p90: 40ms, perceived_tps: 25, perceived_tps_p50: 50, rpm: 60, tpm: 2k, concurrency: 3}"
    )
    one = rules(tmp_path, f"require: {written}, want: {written}")
    assert one.require == one.want
    assert one.shadow_require == one.shadow_want
    assert one.require == Rules(
        regions=("us", "eu-*"),
        retention=("7d", "zero"),
        max_nano_usd_per_request=50_000_000,
        uptime=0.99,
        objectives=(
            Objective(rule="e2e_p95", field="e2e_p95_s", limit_s=9.0),
            Objective(rule="itl_p90", field="itl_p90_s", limit_s=0.04),
            Objective(rule="perceived_tps", field="itl_p99_s", limit_s=0.04),
            Objective(rule="perceived_tps_p50", field="itl_p50_s", limit_s=0.02),
            Objective(rule="ttft_p50", field="ttft_p50_s", limit_s=1.0),
        ),
        limits=Limits(rpm=60, tpm=2000, concurrency=3),
    )
    assert one.shadow_require == Rules(
        no_training=True, quantization=frozenset({"fp8"}), nano_usd_per_mtok=1_500_000_000
    )


@pytest.mark.parametrize(
    ("written", "required", "shadowed"),
    [
        ("require: {region: us}", ("us",), ()),
        ("require: {region: {is: us, mode: shadow}}", (), ("us",)),
        ("require: {mode: shadow, region: us}", (), ("us",)),
        ("mode: shadow, require: {region: us}", (), ("us",)),
        ("mode: shadow, require: {region: {is: us, mode: enforce}}", ("us",), ()),
        ("mode: shadow, require: {mode: enforce, region: us}", ("us",), ()),
    ],
)
def test_the_nearest_mode_counts(
    written: str, required: tuple[str, ...], shadowed: tuple[str, ...], tmp_path: Path
) -> None:
    one = rules(tmp_path, written)
    assert (one.require.regions, one.shadow_require.regions) == (required, shadowed)


def test_a_gate_in_shadow_may_be_one_that_nothing_passes(tmp_path: Path) -> None:
    assert rules(tmp_path, "require: {mode: shadow, region: ap-*}").shadow_require.regions == ("ap-*",)


def test_content_size_and_time_are_matched(tmp_path: Path) -> None:
    first, _ = routes(
        tmp_path,
        "name: r, match: {modality: [image, file], tools: true, input_tokens: {min: 8k, max: 32k},"
        ' time: {days: [sat-sun, wed], hours: "22:00-06:00", zone: Europe/Berlin}}',
    )
    assert first.match == Match(
        modalities=frozenset({Modality.IMAGE, Modality.FILE}),
        tools=True,
        min_input_tokens=8000,
        max_input_tokens=32000,
        schedule=Schedule(
            zone=ZoneInfo("Europe/Berlin"), days=frozenset({2, 5, 6}), from_minute=22 * 60, to_minute=6 * 60
        ),
    )


def test_a_key_is_matched_by_its_tenant_and_name(tmp_path: Path) -> None:
    tenants = f'tenants: {{bank: {{keys: [{{name: ci, digest: "{DIGEST}"}}]}}}}\n'
    text = two_lanes(tenants + "routes: [{name: r, match: {key: bank/ci}}, {name: default}]")
    assert compiled(tmp_path, text).snapshot.routes[0].match.keys == frozenset({"bank/ci"})
    (problem,) = problems(tmp_path, text.replace("bank/ci", "bank/cy"))
    assert (problem.message, problem.hint) == ("unknown key `bank/cy`", "did you mean `bank/ci`?")


NAMES = st.frozensets(st.sampled_from("abc"), min_size=1)
MATCHES = st.builds(
    Match,
    models=st.none() | NAMES,
    tenants=st.none() | NAMES,
    tags=st.frozensets(st.sampled_from("xy")),
    traffic=st.none() | st.sampled_from(Traffic),
    stream=st.none() | st.booleans(),
    tools=st.none() | st.booleans(),
    min_input_tokens=st.none() | st.integers(1, 3),
    max_input_tokens=st.none() | st.integers(1, 3),
    schedule=st.none() | st.sampled_from([Schedule(zone=UTC), Schedule(zone=UTC, to_minute=60)]),
)
REQUESTS = [
    (model, tenant, tags, traffic, stream, tools, tokens, at_s)
    for model in "abc"
    for tenant in "abc"
    for tags in (frozenset(), frozenset("x"), frozenset("y"), frozenset("xy"))
    for traffic in Traffic
    for stream in (False, True)
    for tools in (False, True)
    for tokens in (0, 1, 2, 3, 4)
    for at_s in (0.0, 7200.0)
]


def takes(match: Match, request: tuple[str, str, frozenset[str], Traffic, bool, bool, int, float]) -> bool:
    model, tenant, tags, traffic, stream, tools, tokens, at_s = request
    return (
        (match.models is None or model in match.models)
        and (match.tenants is None or tenant in match.tenants)
        and match.tags <= tags
        and match.traffic in (None, traffic)
        and match.stream in (None, stream)
        and match.tools in (None, tools)
        and (match.min_input_tokens or 0) <= tokens <= (match.max_input_tokens or 9)
        and (match.schedule is None or match.schedule.covers(at_s))
    )


@settings(deadline=None)
@given(MATCHES, MATCHES)
def test_covering_means_taking_every_request_of_the_other(wide: Match, narrow: Match) -> None:
    if covers(wide, narrow):
        assert all(takes(wide, request) for request in REQUESTS if takes(narrow, request))
