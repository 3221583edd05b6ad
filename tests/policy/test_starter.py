"""A starting policy is found without fault, and its own cases see all of it, whatever the answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from proxy.cases.case import judge, read_cases
from proxy.cases.coverage import Coverage, coverage
from proxy.cli.policy_assumed import Assumed
from proxy.meters.prices import PriceList
from proxy.policy.compile import Compiled, check_source
from proxy.policy.lint.lint import lint
from proxy.policy.model import (
    Cap,
    Capability,
    Endpoint,
    Enforce,
    Engine,
    Exhausted,
    Lane,
    Per,
    Prefer,
    Route,
    Snapshot,
)
from proxy.policy.problem import PolicyError
from proxy.policy.source import Source, SourceFile
from proxy.policy.starter.answers import (
    Answers,
    DedicatedAnswer,
    EconomicsAnswer,
    GpusAnswer,
    LatencyAnswer,
    Minded,
    ModelAnswer,
    Pattern,
    PriceAnswer,
    Product,
    ResidencyAnswer,
    SharedAnswer,
    UsageAnswer,
    read_answers,
)
from proxy.policy.starter.cases import starting_cases
from proxy.policy.starter.engine import Fit, fit
from proxy.policy.starter.kinds import Kind
from proxy.policy.starter.layout import flow, laid_out, rounded_up, scalar
from proxy.policy.starter.plan import endpoint_of, planned_routes, residency_tag, settled, suggested_budget
from proxy.policy.starter.profiles import PROFILES
from proxy.policy.starter.text import digest_variables, starting_policy, target_names, variables
from proxy.policy.words import NAME, REGION, RESERVED
from proxy.routing.decide import Router
from tests.policy.answers import model, models_of

PRICES = PriceList.load()
EU_FOR_ONE = ResidencyAnswer(region=("eu-*",), retention="zero", tenants=("one",))
EU_FOR_ALL = ResidencyAnswer(region=("eu-*",), retention="zero")


def compiled(text: str) -> Compiled:
    source = Source("policy.yaml", (SourceFile("policy.yaml", text),), "0" * 64)
    return check_source(source, env=Assumed(), price_of=PRICES.price_of)


def snapshot_of(answers: Answers) -> Snapshot:
    """The compiled starting policy, in which nothing was found."""
    result = compiled(starting_policy(answers))
    assert [str(finding) for finding in lint(result)] == []
    return result.snapshot


def routes_of(answers: Answers) -> dict[str, Route]:
    return {route.name: route for route in snapshot_of(answers).routes}


def seen_by_its_cases(answers: Answers) -> Coverage:
    """What the generated cases see of the policy; all of them pass."""
    snapshot = snapshot_of(answers)
    works = {route.name: route.work for route in planned_routes(answers)}
    text = starting_cases(snapshot, works, "policy.yaml")
    cases = read_cases(SourceFile("policy.test.yaml", text), snapshot)
    results = [judge(case, Router(snapshot)) for case in cases]
    assert [(result.case.name, result.differences) for result in results if not result.passed] == []
    return coverage(snapshot, [(result.case.given, result.decision) for result in results])


def answers_for(kind: Kind, **changes: object) -> Answers:
    return Answers(interface=kind, **{"models": models_of(kind), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("traffic", Pattern)
@pytest.mark.parametrize("residency", [None, EU_FOR_ONE, EU_FOR_ALL], ids=["anywhere", "one-in-eu", "all-in-eu"])
def test_the_policy_has_no_finding_and_its_cases_pass(
    kind: Kind, product: Product, traffic: Pattern, residency: ResidencyAnswer | None
) -> None:
    usage = UsageAnswer(traffic=traffic, product=product, tenants=("one", "two"), residency=residency)
    assert [
        str(side) for side in seen_by_its_cases(answers_for(kind, usage=usage)).missing if not idle(side.rule)
    ] == []


def idle(rule: str) -> bool:
    """A cap on the price of a token, which the providers of these tests are well below."""
    return rule == "require.usd_per_mtok"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("traffic", Pattern)
@pytest.mark.parametrize("product", Product)
def test_one_lane_is_enough(kind: Kind, lane: Lane, traffic: Pattern, product: Product) -> None:
    both = models_of(kind)
    one = {
        name: ModelAnswer(
            endpoint=answer.endpoint,
            dedicated=answer.dedicated if lane is Lane.DEDICATED else None,
            shared=answer.shared if lane is Lane.SHARED else (),
        )
        for name, answer in both.items()
    }
    usage = UsageAnswer(traffic=traffic, product=product, tenants=("one",))
    answers = answers_for(kind, models=one, usage=usage)
    assert {target.lane for target in snapshot_of(answers).targets.values()} == {lane}
    assert [str(side) for side in seen_by_its_cases(answers).missing if not idle(side.rule)] == []


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("minded", Minded)
def test_money_and_speed_may_count_more_than_the_kind_suggests(kind: Kind, minded: Minded) -> None:
    answers = answers_for(
        kind,
        economics=EconomicsAnswer(minded=minded, max_usd_per_request="0.02", usd_per_mtok="1.50"),
        usage=UsageAnswer(traffic=Pattern.BOTH),
    )
    routes = routes_of(answers)
    offline = routes.pop("offline")
    assert {route.prefer for route in routes.values()} == {Prefer.COST if minded is Minded.BUDGET else Prefer.LATENCY}
    assert offline.prefer is (Prefer.COST if minded is Minded.BUDGET else Prefer.DEDICATED)
    for route in (offline, *routes.values()):
        assert route.require.max_nano_usd_per_request == 20_000_000
        assert route.require.nano_usd_per_mtok == 1_500_000_000
    seen_by_its_cases(answers)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("lane", [None, *Lane])
@pytest.mark.parametrize("residency", [None, EU_FOR_ONE, EU_FOR_ALL], ids=["anywhere", "one-in-eu", "all-in-eu"])
@pytest.mark.parametrize("enforce", [None, *Enforce])
def test_whoever_minds_the_budget_gets_one(
    kind: Kind, lane: Lane | None, residency: ResidencyAnswer | None, enforce: Enforce | None
) -> None:
    models = {
        name: ModelAnswer(
            endpoint=answer.endpoint,
            dedicated=None if lane is Lane.SHARED else answer.dedicated,
            shared=() if lane is Lane.DEDICATED else answer.shared,
        )
        for name, answer in models_of(kind).items()
    }
    answers = answers_for(
        kind,
        models=models,
        economics=EconomicsAnswer(minded=Minded.BUDGET, enforce=enforce),
        usage=UsageAnswer(traffic=Pattern.BOTH, tenants=("one", "two"), residency=residency),
    )
    budgets = snapshot_of(answers).budgets
    if lane is Lane.DEDICATED:
        assert budgets == ()
        return
    (budget,) = budgets
    assert budget.enforce is (enforce or Enforce.HARD)
    assert budget.exhausted is (Exhausted.REJECT if lane is Lane.SHARED else Exhausted.DEDICATED_ONLY)
    missing = {side for side in seen_by_its_cases(answers).missing if side.subject.startswith("budget")}
    assert missing == set()


def test_a_budget_is_as_much_again_as_the_gpus_cost() -> None:
    gpus = GpusAnswer(type="H100", count=2, usd_per_hour="2.99")
    answers = answers_for(Kind.CHAT, economics=EconomicsAnswer(minded=Minded.BUDGET, gpus=gpus))
    one = {name: replace(answer, dedicated=engine_of(answer, gpus=None)) for name, answer in answers.models.items()}
    assert suggested_budget(replace(answers, models=one)) == "$4400/month"
    two = {
        name: replace(answer, dedicated=engine_of(answer, url=("http://a/v1", "http://b/v1"), gpus=gpus))
        for name, answer in answers.models.items()
    }
    assert suggested_budget(replace(answers, models=two)) == "$8800/month"
    none = {name: replace(answer, dedicated=None) for name, answer in answers.models.items()}
    assert suggested_budget(replace(answers, models=none)) == "$500/month"


def engine_of(answer: ModelAnswer, **changes: Any) -> DedicatedAnswer:
    assert answer.dedicated is not None
    return replace(answer.dedicated, **changes)


def test_a_figure_of_ones_own_is_the_budget_and_nobody_else_gets_one() -> None:
    (budget,) = snapshot_of(answers_for(Kind.CHAT, economics=EconomicsAnswer(budget="$20/day"))).budgets
    assert budget.caps == (Cap(20 * 10**9, Per.DAY),)
    assert snapshot_of(answers_for(Kind.CHAT)).budgets == ()
    assert snapshot_of(answers_for(Kind.CHAT, economics=EconomicsAnswer(minded=Minded.BUDGET, budget=""))).budgets == ()


def test_a_budget_is_hard_where_everything_can_be_counted() -> None:
    def enforced(price: PriceAnswer | None, **economics: Any) -> Enforce:
        unlisted = SharedAnswer(provider="nebius", model="in-no-list", price=price)
        models = {"chat": ModelAnswer(endpoint=Endpoint.CHAT, shared=(unlisted,))}
        economics = {"minded": Minded.BUDGET} | economics
        answers = settled(
            answers_for(Kind.CHAT, models=models, economics=EconomicsAnswer(**economics)), PRICES.price_of
        )
        (budget,) = compiled(starting_policy(answers)).snapshot.budgets
        return budget.enforce

    assert enforced(PriceAnswer(input="1", output="1")) is Enforce.HARD
    assert enforced(None) is Enforce.SOFT
    assert enforced(None, enforce=Enforce.HARD) is Enforce.HARD


def test_a_budget_for_nobody_is_a_mistake() -> None:
    text = """interface: chat
models: {chat: {dedicated: {url: "http://a:8000/v1", model: m}}}
economics: {budget: $5/day}
"""
    with pytest.raises(PolicyError) as refused:
        read_answers(SourceFile("answers.yaml", text))
    assert [problem.message for problem in refused.value.problems] == ["no provider is there to be paid"]


def test_a_latency_budget_replaces_that_of_the_main_route_and_no_other() -> None:
    latency = LatencyAnswer(ttft_p99="2s", e2e_p50="3s")
    routes = routes_of(answers_for(Kind.AGENTS, latency=latency))
    main = {one.rule: one.limit_s for one in routes["agents"].want.objectives}
    assert main == {"ttft_p99": 2.0, "e2e_p90": 30.0, "e2e_p50": 3.0}
    assert {one.rule: one.limit_s for one in routes["long-context"].want.objectives}["ttft_p99"] == 15.0


def test_residency_of_some_tenants_is_a_twin_of_each_route_before_it() -> None:
    usage = UsageAnswer(tenants=("one", "two"), residency=EU_FOR_ONE)
    routes = routes_of(answers_for(Kind.AGENTS, usage=usage))
    assert list(routes) == ["eu-long-context", "eu-agents", "long-context", "agents"]
    assert [bool(route.require.regions) for route in routes.values()] == [True, True, False, False]
    assert routes["eu-agents"].match.tags == {"eu"}
    assert routes["agents"].want == routes["eu-agents"].want


def test_offline_work_holds_half_of_an_engine_however_many_its_routes() -> None:
    def shares(residency: ResidencyAnswer | None) -> list[int | None]:
        usage = UsageAnswer(traffic=Pattern.BOTH, tenants=("one", "two"), residency=residency)
        routes = routes_of(answers_for(Kind.CHAT, usage=usage))
        return [route.require.limits.concurrency for name, route in routes.items() if "offline" in name]

    assert shares(None) == [64]
    assert shares(EU_FOR_ONE) == [32, 32]


def test_residency_of_every_tenant_needs_no_tag() -> None:
    usage = UsageAnswer(tenants=("one",), residency=EU_FOR_ONE)
    answers = answers_for(Kind.CHAT, usage=usage)
    assert residency_tag(answers) == ""
    assert [route.require.regions for route in snapshot_of(answers).routes] == [("eu-*",)]


@pytest.mark.parametrize(
    ("glob", "tag"), [("eu-*", "eu"), ("eu-west-1", "eu-west-1"), ("*-west-?", "west"), ("*", "resident")]
)
def test_the_tag_of_a_region(glob: str, tag: str) -> None:
    residency = ResidencyAnswer(region=(glob,), tenants=("one",))
    usage = UsageAnswer(tenants=("one", "two"), residency=residency)
    answers = answers_for(Kind.CHAT, usage=usage)
    assert residency_tag(answers) == tag
    seen_by_its_cases(answers)


def test_tenants_have_rates_and_customers_a_share_of_the_engines() -> None:
    apps = snapshot_of(answers_for(Kind.CHAT, usage=UsageAnswer(tenants=("web",)))).tenants["web"]
    assert (apps.limits.rpm, apps.limits.tpm, apps.limits.concurrency) == (600, 1_100_000, None)
    usage = UsageAnswer(product=Product.B2B, tenants=("acme",))
    assert snapshot_of(answers_for(Kind.CHAT, usage=usage)).tenants["acme"].limits.concurrency == 128


def test_a_search_without_vectors_has_no_route_for_them() -> None:
    routes = routes_of(answers_for(Kind.SEARCH, models={"answers": model(Kind.SEARCH, Endpoint.CHAT)}))
    assert list(routes) == ["answers"]
    only_vectors = answers_for(
        Kind.SEARCH, models={"embed": model(Kind.SEARCH, Endpoint.EMBEDDINGS)}, usage=UsageAnswer(traffic=Pattern.BOTH)
    )
    assert list(routes_of(only_vectors)) == ["offline", "embed"]
    assert routes_of(only_vectors)["embed"].match.catches_all
    assert [str(side) for side in seen_by_its_cases(only_vectors).missing if not idle(side.rule)] == []


def test_vectors_are_all_that_a_target_for_them_serves() -> None:
    targets = snapshot_of(answers_for(Kind.SEARCH)).targets
    assert targets["own-embed"].native == {Endpoint.EMBEDDINGS}
    assert targets["own-answers"].serves(Endpoint.CHAT)
    assert endpoint_of(answers_for(Kind.COMPLETION, models={"code": ModelAnswer()}), "code") is Endpoint.COMPLETIONS


def test_targets_are_told_apart() -> None:
    again = SharedAnswer(provider="nebius", model="a")
    models = {"a": ModelAnswer(shared=(again, again)), "b": ModelAnswer(shared=(again,))}
    names = target_names(answers_for(Kind.CHAT, models=models))
    assert {model: [name for name, _ in targets] for model, targets in names.items()} == {
        "a": ["nebius-a", "nebius-a-2"],
        "b": ["nebius-b"],
    }


def test_variables_are_named_as_their_owners_name_them() -> None:
    shared = tuple(SharedAnswer(provider=one, model="m") for one in ("together_ai", "openai", "vertex_ai-beta"))
    mine = SharedAnswer(provider="openai", model="n", api_key="MY_KEY")
    models = {"chat": ModelAnswer(shared=(*shared, mine))}
    usage = UsageAnswer(tenants=("acme.io", "1st"))
    assert variables(answers_for(Kind.CHAT, models=models, usage=usage)) == (
        "TOGETHER_API_KEY",
        "OPENAI_API_KEY",
        "VERTEX_AI_BETA_API_KEY",
        "MY_KEY",
        "ACME_IO_KEY_SHA256",
        "T_1ST_KEY_SHA256",
    )


def test_no_two_tenants_share_a_variable() -> None:
    assert digest_variables(["a-b", "a.b", "a_b", "--"]) == {
        "a-b": "A_B_KEY_SHA256",
        "a.b": "A_B_2_KEY_SHA256",
        "a_b": "A_B_3_KEY_SHA256",
        "--": "TENANT_KEY_SHA256",
    }


def test_clouds_with_credentials_of_their_own_need_no_key() -> None:
    price = PriceAnswer(input="1", output="2")
    bedrock = SharedAnswer(provider="bedrock", model="m", region="eu-west-1", price=price)
    answers = answers_for(Kind.CHAT, models={"chat": ModelAnswer(shared=(bedrock,))})
    assert variables(answers) == ()
    assert snapshot_of(answers).targets["bedrock"].api_key is None


def test_offline_work_may_cost_what_the_providers_named_for_it_charge() -> None:
    dear = ModelAnswer(
        dedicated=model(Kind.CHAT, Endpoint.CHAT).dedicated,
        shared=(SharedAnswer(provider="openai", model="gpt-4.1"),),
    )
    usage = UsageAnswer(traffic=Pattern.OFFLINE)
    answers = settled(answers_for(Kind.CHAT, models={"chat": dear}, usage=usage), PRICES.price_of)
    assert routes_of(answers)["offline"].require.nano_usd_per_mtok == 3_500_000_000  # (3 x 2 + 8) / 4
    stated = answers_for(Kind.CHAT, models={"chat": dear}, usage=usage, economics=EconomicsAnswer(usd_per_mtok="9.99"))
    assert settled(stated, PRICES.price_of) == stated
    both = answers_for(Kind.CHAT, models={"chat": dear}, usage=UsageAnswer(traffic=Pattern.BOTH))
    assert settled(both, PRICES.price_of) == both


def test_an_engine_runs_as_full_as_its_pace_allows() -> None:
    def target(**changes: object) -> DedicatedAnswer:
        return DedicatedAnswer(**{"url": ("http://a:8000/v1",), "model": "m-70B", "quantization": "fp8", **changes})  # type: ignore[arg-type]

    two = GpusAnswer(type="H100", count=2, usd_per_hour="2.99")
    assert fit(target(), two, 128, 0.05) == Fit(max_in_flight=128, max_batched_tokens=320)
    assert fit(target(), two, 512, 0.05).max_in_flight == 128
    assert fit(target(quantization=""), two, 128, 0.05).max_in_flight < 128
    unknown = Fit(max_in_flight=128)
    assert fit(target(), two, 128, None) == unknown
    assert fit(target(model="m"), two, 128, 0.05) == unknown
    assert fit(target(engine=Engine.TGI), two, 128, 0.05) == unknown
    assert fit(target(), GpusAnswer(type="TPU", usd_per_hour="1"), 128, 0.05) == unknown
    assert fit(target(), two, 128, 0.005) == unknown  # no batch is so fast: `check` says so


NAMES = st.from_regex(NAME, fullmatch=True).filter(lambda name: name not in RESERVED)
REGIONS = st.from_regex(REGION, fullmatch=True)


@given(model_name=NAMES, tenants=st.lists(NAMES, max_size=3, unique=True), region=REGIONS, upstream=st.text(min_size=1))
def test_any_names_are_written_so_that_they_are_read_as_they_were(
    model_name: str, tenants: list[str], region: str, upstream: str
) -> None:
    assume(region != "unknown" and upstream.isprintable() and upstream == upstream.strip() and "${" not in upstream)
    dedicated = DedicatedAnswer(url=("http://a:8000/v1",), model=upstream, region=region, engine=Engine.TGI)
    usage = UsageAnswer(
        traffic=Pattern.BOTH,
        product=Product.B2B,
        tenants=tuple(tenants),
        residency=ResidencyAnswer(region=(region,), tenants=tuple(tenants[:1])),
    )
    answers = Answers(interface=Kind.CHAT, models={model_name: ModelAnswer(dedicated=dedicated)}, usage=usage)
    snapshot = compiled(starting_policy(answers)).snapshot
    assert set(snapshot.models) == {model_name}
    assert set(snapshot.tenants) == set(tenants)
    ((target,),) = ([one.target for one in candidates] for candidates in snapshot.models.values())
    assert (target.region, target.model) == (region, upstream)
    seen_by_its_cases(answers)


def test_claims_of_targets_are_kept_in_mind_by_the_cases() -> None:
    dedicated = DedicatedAnswer(
        url=("http://a:8000/v1", "http://b:8000/v1"),
        model="Qwen/Qwen3-VL-30B-A3B-Instruct",
        quantization="fp8",
        context_window="32k",
        supports=(Capability.VISION, Capability.VIDEO),
    )
    shared = SharedAnswer(
        provider="nebius",
        model="m",
        price=PriceAnswer(input="1", output="2"),
        context_window="64k",
        supports=(Capability.VISION,),
        training=False,
    )
    answers = answers_for(Kind.MEDIA, models={"media": ModelAnswer(dedicated=dedicated, shared=(shared,))})
    targets = snapshot_of(answers).targets
    assert targets["own"].replicas == 2
    assert targets["own"].quantization == "fp8"
    assert targets["own"].context_window == 32_000
    assert targets["own"].supports == {Capability.VISION, Capability.VIDEO}
    assert targets["nebius"].trains is False
    seen_by_its_cases(answers)


def test_every_reason_is_given_once_and_no_line_is_too_long() -> None:
    usage = UsageAnswer(traffic=Pattern.BOTH, tenants=("one", "two"), residency=EU_FOR_ONE)
    for kind in Kind:
        text = starting_policy(answers_for(kind, usage=usage))
        assert max(map(len, text.splitlines())) <= 120
        for work in PROFILES[kind].works:
            for rule in (*work.require, *work.want):
                assert text.count(f"# {rule.why}") >= 1


def test_text_is_laid_out_in_columns() -> None:
    lines = [(0, "a:", "why"), (1, "b: 1", "because"), (1, "b: 1", "because"), (1, "c: 2", "x" * 118)]
    assert laid_out(lines) == f"a:      # why\n  b: 1  # because\n  b: 1\n  # {'x' * 118}\n  c: 2\n"
    assert flow(["a", "b"]) == "[a, b]"
    assert [rounded_up(count) for count in (7, 64, 600, 1_020_000, 999)] == [7, 64, 600, 1_100_000, 1000]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("Qwen/Qwen3:free", "Qwen/Qwen3:free"),
        ("4.1", '"4.1"'),
        ("true", '"true"'),
        ("@cf/meta", '"@cf/meta"'),
        ("a: b", '"a: b"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a #b", '"a #b"'),
    ],
)
def test_text_is_quoted_where_it_would_be_something_else(text: str, written: str) -> None:
    assert scalar(text) == written


def read(text: str) -> Answers:
    return read_answers(SourceFile("answers.yaml", text))


COMPLETE = """\
interface: voice
models:
  assistant:
    dedicated: {url: [http://a:8000/v1, http://b:8000/v1], model: m, engine: sglang, region: eu-west-1}
    shared:
      - {provider: groq, model: m, region: eu-central-1, retention: 30d, training: false, price: {input: 1, output: 2}}
latency: {ttft_p99: 400ms}
economics: {gpus: {type: H200, count: 2, usd_per_hour: 3.50}, max_usd_per_request: 0.02, minded: latency}
usage: {traffic: both, product: b2b, tenants: [bank, shop], residency: {region: eu-*, retention: 30d, tenants: bank}}
"""


def test_answers_are_read_from_a_file_as_they_are_spelled() -> None:
    answers = read(COMPLETE)
    assert answers.interface is Kind.VOICE
    assert answers.latency.ttft_p99 == "400ms"
    assert answers.economics.gpus is not None
    assert answers.economics.gpus.usd_per_hour == "3.5"
    assert answers.usage.residency == ResidencyAnswer(region=("eu-*",), retention="30d", tenants=("bank",))
    assert [str(side) for side in seen_by_its_cases(answers).missing] == []


def test_the_least_answers_are_two() -> None:
    answers = read("interface: chat\nmodels: {chat: {shared: [{provider: openai, model: gpt-4.1-mini}]}}\n")
    assert answers.usage == UsageAnswer()
    assert list(routes_of(answers)) == ["chat"]


MINIMAL = "interface: chat\nmodels: {chat: {dedicated: {url: http://a:8000/v1, model: m}}}\n"


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ("models: {}\n", "1:9", "expected a mapping of models", "write `models:"),
        ("interface: chat\nmodels: {chat: {}}\n", "2:10", "model `chat` has no target", "dedicated"),
        ("interface: chatt\n" + MINIMAL[16:], "1:12", "expected one of", "did you mean `chat`?"),
        (MINIMAL + "usage: {trafic: both}\n", "3:9", "unknown key `trafic` in `usage`", "did you mean `traffic`?"),
        (MINIMAL + "budget: low\n", "3:1", "unknown key `budget`", ""),
        (MINIMAL + "latency: {ttft_p99: 400}\n", "3:21", "duration without a unit", "write `400ms`"),
        (MINIMAL.replace("/v1", ""), "2:34", "`http://a:8000` has no path", "http://a:8000/v1"),
        (MINIMAL + "usage: {traffic: offline}\nlatency: {ttft_p99: 1s}\n", "4:1", "nobody waits", "traffic: both"),
        (MINIMAL + "usage: {residency: {region: eu-*}}\n", "3:29", "no target of model `chat` is in `eu-*`", "region"),
        (
            MINIMAL.replace("m}", "m, region: eu-west-1}")
            + "usage: {tenants: [bank], residency: {region: eu-*, tenants: bnk}}\n",
            "3:52",
            "unknown tenant `bnk`",
            "did you mean `bank`?",
        ),
        (
            "interface: chat\nmodels: {chat: {shared: [{provider: openai, model: m, api_key: sk-123}]}}\n",
            "2:64",
            "expected the name of an environment variable",
            "never the key",
        ),
        (MINIMAL.replace("model: m", 'model: "${M}"'), "2:59", "`M`", ""),
        (MINIMAL.replace("chat: {ded", "other: {ded"), "2:10", "the name `other` is reserved", "choose another"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_with_place_and_hint(
    text: str, where: str, message: str, hint: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        read(text)
    found = [problem for problem in refused.value.problems if problem.where == f"answers.yaml:{where}"]
    assert found, str(refused.value)
    assert message in found[0].message
    assert hint in found[0].hint


def test_a_key_in_the_answers_is_never_repeated() -> None:
    with pytest.raises(PolicyError) as refused:
        read("interface: chat\nmodels: {chat: {shared: [{provider: openai, model: m, api_key: sk-secret}]}}\n")
    assert "sk-secret" not in str(refused.value)


def test_the_examples_of_answers_make_policies(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(starting_policy(read(COMPLETE)), "utf-8")
    assert compiled(path.read_text("utf-8")).warnings == ()
