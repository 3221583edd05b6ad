"""`spillway policy explain`: its answer in words and as data, where it looks, and what it cannot answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from proxy.cli.policy import app
from proxy.cli.policy_assumed import compiled
from proxy.cli.policy_explain_log import budgets_words, lines_of, rates_words, readings_words
from proxy.cli.policy_explain_source import Unanswerable, find
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.model import Budget, Cap, Endpoint, Lane, Per, Traffic
from proxy.routing.explain.explained import Explanation
from proxy.routing.plan import Cause, Exclusion
from proxy.telemetry.log import Attempted, Line, Refused
from tests.harness import dedicated, proxy, shared, snapshot_of
from typer.testing import CliRunner, Result

POLICY = """\
version: 1
targets:
  gpu:
    lane: dedicated
    engine: vllm
    urls: [http://gpu-0:8000/v1, http://gpu-1:8000/v1]
    model: llama
    region: eu-west-1
    retention: zero
    gpus: {type: H100, count: 4, usd_per_hour: 2.50}
    max_in_flight: 64
  api:
    lane: shared
    provider: openai
    url: https://api.example/v1
    model: llama-large
    api_key: ${API_KEY}
    region: us-east-1
    retention: 30d
    price: {input: 1, output: 2}
  unpriced:
    lane: shared
    provider: openai
    url: https://other.example/v1
    model: no-such-model-in-any-list
    api_key: ${OTHER_API_KEY}
    region: us-west-1
    training: true
models:
  chat: [gpu, api, unpriced]
  own: [gpu]
tenants:
  bank:
    keys: [{name: ci, digest: "sha256:${BANK_KEY}"}]
    tags: [gdpr]
    rpm: 600
    tpm: 2M
  growth:
    keys: ["sha256:${GROWTH_KEY}"]
    request_tags: [eval]
    models: [chat]
routes:
  - name: gdpr
    match: {tags: [gdpr]}
    require: {region: eu-*, retention: zero}
  - name: eval
    match: {tags: [eval]}
    target_override: true
    prefer: latency
    max_failovers: 0
  - name: default
    require: {training: {is: false, mode: shadow}}
    want: {ttft_p99: 2s, uptime: 99%}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def explain(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)], input=stdin)


def words(result: Result) -> str:
    """What was printed, as if nothing had been wrapped."""
    return " ".join(result.output.split())


def readings(path: Path, text: str) -> Path:
    file = path.with_name("readings.yaml")
    file.write_text(text)
    return file


def test_the_first_line_is_the_answer(policy: Path) -> None:
    result = explain(policy, "--model", "chat", "--tenant", "growth")
    assert result.exit_code == 0
    assert result.output.startswith("Goes to `gpu` (dedicated): it comes first on route `default`, which fills GPUs")


def test_routes_are_told_in_order_up_to_the_one_that_matches(policy: Path) -> None:
    said = words(explain(policy, "--model", "chat", "--tenant", "growth"))
    assert "no gdpr needs tag `gdpr`; the request has none" in said
    assert "no eval needs tag `eval`; the request has none" in said
    assert "yes default matches every request wants ttft_p99 at most 2.00 s; uptime at least 99.00%" in said
    assert "in shadow no training on prompts" in said


def test_each_target_says_why_it_stands_where_it_does(policy: Path) -> None:
    said = words(explain(policy, "--model", "chat", "--tenant", "bank"))
    assert "1. gpu dedicated first, on replica 0" in said
    assert "again in place 2, on replica 1" in said
    assert "out api shared not allowed: its region is us-east-1, and the route requires eu-*" in said
    assert "also: its retention is 30d, and the route requires zero [require.retention]" in said
    assert "its GPUs (8 H100) are paid for, $20 an hour, used or idle" in said
    assert "costs about $0.003048 (price: policy)" in said
    assert "cost unknown: no price is stated or listed" in said
    assert "1,000 tokens in and 1,024 out (assumed: the request sets no limit)" in said
    assert "tenant bank: 0 of 600 requests a minute [tenant.rpm]" in said
    assert "each is taken to be idle and healthy" in said


def test_a_spill_names_what_was_full_and_what_was_seen(policy: Path) -> None:
    seen = readings(policy, "gpu: {in_flight: 64, ttft_p99: 1.2s, itl_p50: 20ms}\napi: {uptime: 98%, failures: 4}\n")
    result = explain(policy, "--model", "chat", "--tenant", "growth", "--readings", seen)
    said = words(result)
    assert result.exit_code == 0
    assert said.startswith(
        "Goes to `unpriced` (shared): `gpu` (dedicated) would come first, but it is full, with 128 of 128 in flight."
    )
    assert "out gpu dedicated not able now: it is full, with 128 of 128 in flight [capacity]" in said
    assert "seen of each replica: 64 of 64 in flight, TTFT p99 1.20 s, ITL p50 20 ms" in said
    assert "misses a wish: its uptime is 98.00%, and the route wants 99.00% [want.uptime]" in said
    assert "unpriced would be left out: training is true, asked false [require.training]" in said
    assert "answered 98% of the time, if they fail independently (1 of 3 are measured" in said


def test_every_state_of_a_replica_has_its_words(policy: Path) -> None:
    seen = readings(
        policy, "gpu: [{breaker: open}, {breaker: half_open, full: 3s}]\napi: {paced: 2s}\nunpriced: {full: true}\n"
    )
    result = explain(policy, "--model", "chat", "--tenant", "growth", "--readings", seen)
    said = words(result)
    assert result.exit_code == 1
    assert "seen of replica 0: 0 of 64 in flight, breaker open, probe in 5.00 s" in said
    assert "breaker half open, full for 3.00 s more" in said
    assert "held back for 2.00 s by its quota" in said
    assert "its engine is full (said so 0.0 s ago) [engine_full]" in said
    assert "its provider's limit is nearly used up (used up) [quota]" in said
    assert "status 503 at_capacity" in said
    assert "retry after 1.00 s" in said


BUDGETS = """\
budgets:
  - {name: spill, match: {tenant: growth, target: api}, limit: [$500/day, $5000/month]}
  - {name: everybody, limit: $90/hour, enforce: soft, exhausted: reject, match: {model: chat}}
"""


@pytest.fixture
def budgeted(policy: Path) -> Path:
    policy.write_text(POLICY + BUDGETS)
    return policy


ASKED = ("--model", "chat", "--tenant", "growth", "--at", "2026-01-05T12:00Z")


def test_budgets_are_told_with_what_comes_after_them(budgeted: Path) -> None:
    said = words(explain(budgeted, *ASKED))
    assert "spill (hard): $500 a day and $5000 a month, pays for `api` [budget:spill]" in said
    assert "when that is spent: it goes to `gpu` (dedicated)" in said
    assert "everybody (soft): $90 an hour, pays for `api` and `unpriced` [budget:everybody]" in said
    assert "when that is spent: the request is refused with 429 `budget_exceeded`" in said


def test_budgets_can_be_taken_as_exhausted(budgeted: Path) -> None:
    result = explain(budgeted, *ASKED, "--lane", "shared", "--exhausted", "spill")
    said = words(result)
    assert result.exit_code == 0
    assert "out api shared not able now: budget `spill` has no money left for it" in said
    assert "$500 of $500 a day spent, $0 to be had here, again whole in 12 h 0 min" in said
    assert "too little for this request: it goes to `unpriced` (shared)" in said
    both = explain(budgeted, *ASKED, "--lane", "shared", "--exhausted", "spill, everybody")
    assert both.exit_code == 1
    assert "429 budget_exceeded" in words(both)
    assert "retry after 1 h 0 min" in words(both)
    unknown = explain(budgeted, *ASKED, "--exhausted", "spil")
    assert (unknown.exit_code, unknown.stderr) == (2, "unknown budget `spil` (hint: did you mean `spill`?)\n")


def test_made_up_readings_may_say_what_budgets_have_left(budgeted: Path) -> None:
    seen = readings(budgeted, "budgets: {spill: {spent: 4999.99, window: month}, everybody: unavailable}\n")
    said = words(explain(budgeted, *ASKED, "--readings", seen))
    assert "$4999.99 of $5000 a month spent, $0.01 to be had here, again whole in 26 d 12 h" in said
    assert "$90 of $90 an hour spent, $0 to be had here, and the store cannot be asked for more" in said
    assert "Refused with 429 `budget_unavailable`" in said
    wrong = explain(budgeted, *ASKED, "--readings", readings(budgeted, "readings: {}\nbudgets: {spil: exhausted}\n"))
    assert wrong.exit_code == 2
    assert "readings.yaml:2:11: unknown budget `spil` (hint: did you mean `spill`?)" in wrong.stderr


def test_a_refusal_says_what_the_client_gets(policy: Path) -> None:
    seen = readings(policy, "rates:\n  tenant:bank: {requests: 600, frees_in: 4s}\n")
    result = explain(policy, "--model", "chat", "--tenant", "bank", "--readings", seen)
    said = words(result)
    assert result.exit_code == 1
    assert said.startswith(
        "Refused with 429 `rate_limit_exceeded`: tenant `bank` has used 600 of its 600 requests a minute."
    )
    assert "Which target? none is looked at: it is refused before" in said
    assert "gpu dedicated nothing would keep it out" in said
    assert "in any case: its region is us-east-1" in said
    assert "tenant bank: 600 of 600 requests a minute; over it: refused [tenant.rpm]" in said
    assert "status 429 rate_limit_exceeded" in said
    assert "retry after 4.00 s" in said


def test_a_lasting_refusal_says_that_trying_again_is_of_no_use(policy: Path) -> None:
    result = explain(policy, "--model", "own", "--tenant", "growth")
    assert result.exit_code == 1
    assert "tenant `growth` may not ask for model `own`; its models: `chat`." in words(result)
    assert "retry of no use" in words(result)


def test_all_that_can_be_asked_is_repeated(policy: Path) -> None:
    options = (
        "--key bank/ci --endpoint responses --traffic offline --priority low --stream --modality image,audio --tools "
        "--input-tokens 8k --max-output-tokens 200 --lane shared --target api --at 2026-01-05T12:00+01:00"
    )
    said = words(explain(policy, "--model", "chat", *options.split()))
    assert (
        "request model chat, key bank/ci, tags gdpr, endpoint responses, offline, low priority, "
        "streamed, audio and image in the prompt, tools, about 8,000 tokens in, at most 200 out, "
        "x-spillway-lane: shared, x-spillway-target: api, at Mon 2026-01-05 11:00 UTC"
    ) in said


def test_a_chosen_target_has_no_other_to_fall_back_on(policy: Path) -> None:
    said = words(explain(policy, "--model", "chat", "--tenant", "growth", "--tags", "eval", "--target", "api"))
    assert "Goes to `api` (shared): it is the only target that route `eval` allows." in said
    assert "out gpu dedicated not allowed: the caller asked for `api` and no other [target_override]" in said


def test_no_line_is_wider_than_the_terminal_and_none_ends_in_blanks(policy: Path) -> None:
    lines = explain(policy, "--model", "chat", "--tenant", "bank").output.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line != line.rstrip()] == []
    assert "\x1b" not in "".join(lines)


def test_hundreds_of_routes_are_not_all_told(policy: Path) -> None:
    rows = [f"  - {{name: r{n}, match: {{tags: [gdpr], input_tokens: {{min: {n}k}}}}}}\n" for n in range(39, 9, -1)]
    policy.write_text(POLICY.replace("routes:\n", "routes:\n" + "".join(rows)))
    said = words(explain(policy, "--model", "chat", "--tenant", "growth"))
    assert "no r39 needs tag `gdpr`; the request has none" in said
    assert "... 12 more, see --format json" in said
    assert "no eval needs tag `eval`; the request has none yes default" in said


def test_json_is_what_the_admin_port_gives(policy: Path) -> None:
    result = explain(policy, "--model", "chat", "--tenant", "growth", "--format", "json")
    found = msgspec.json.decode(result.stdout.encode(), type=Explanation)
    assert found.first is not None
    assert (found.first.target, found.request.tenant, found.refusal) == ("gpu", "growth", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which policy?"),
        (["absent.yaml", "--model", "chat"], "no such file or folder: `absent.yaml`"),
        (["POLICY"], "`model` is missing"),
        (["POLICY", "--model", "chta", "--tenant", "bank"], "unknown model `chta` (hint: did you mean `chat`?)"),
        (["POLICY", "--model", "chat"], "`tenant` is missing (hint: known: `bank`, `growth`)"),
        (["POLICY", "--model", "chat", "--tenant", "growth", "--tags", "vip"], "may not add the tag `vip`"),
        (["POLICY", "--model", "chat", "--tenant", "bank", "--at", "noon"], "not a moment"),
        (["POLICY", "--request", "r1", "--log", "absent.log"], "cannot read the log `absent.log`"),
        (
            ["POLICY", "--request", "r1", "--model", "chat"],
            "`--request` says what was asked (hint: leave out `--model`)",
        ),
        (["--live", "localhost:9090", "--model", "chat"], "is no URL (hint: begin with `http://`"),
        (["--live", "http://127.0.0.1:1", "--model", "chat"], "no proxy answers at `http://127.0.0.1:1`"),
    ],
)
def test_what_cannot_be_answered(policy: Path, arguments: list[str], said: str) -> None:
    result = explain(*[policy if one == "POLICY" else one for one in arguments])
    assert result.exit_code == 2
    assert said in words(result)
    assert result.stdout == ""


def test_mistakes_in_made_up_readings_have_their_place(policy: Path) -> None:
    wrong = readings(policy, "readings:\n  gpuu: {in_flight: 64}\n  api: {uptime: 98}\nrate: {}\n")
    result = explain(policy, "--model", "chat", "--tenant", "bank", "--readings", wrong)
    assert result.exit_code == 2
    assert f"{wrong}:2:3: unknown target `gpuu` (hint: did you mean `gpu`?)" in result.stderr
    assert f"{wrong}:3:17: expected a percentage" in result.stderr
    assert f"{wrong}:4:1: unknown section `rate`" in result.stderr


def test_a_broken_policy_is_told_as_check_tells_it(policy: Path) -> None:
    policy.write_text(POLICY.replace("lane: dedicated", "lane: dedicatd"))
    result = explain(policy, "--model", "chat", "--tenant", "bank")
    assert result.exit_code == 2
    assert f"{policy}:4:" in result.stderr


def tried(target: str, lane: Lane, reason: str, **ended: Any) -> Attempted:
    told = {"status": 200, "failure": None, "nano_usd": 0, **ended}
    return Attempted(
        target=target, lane=lane, replica=0, cause=Cause.PREFERRED, reason=reason, committed=True, ttft_ms=None,
        itl_ms=None, total_ms=1040.9, input_tokens=2, output_tokens=3, cached_input_tokens=0, estimated=False,
        price="policy", **told,
    )  # fmt: skip


def logged(**given: Any) -> bytes:
    """A line of the log: a request of `growth` that spilled."""
    told = {
        "at": 1_795_353_592.0, "received_at": 1_795_353_591.0, "request_id": "r1", "tenant": "growth", "model": "chat",
        "endpoint": Endpoint.CHAT, "stream": False, "traffic": Traffic.ONLINE, "route": "default",
        "attempts": [tried("api", Lane.SHARED, "dedicated at capacity: 128 of 128 in flight on gpu", nano_usd=320_800)],
        "excluded": (Exclusion("gpu", "capacity", "128 of 128 in flight", "128 in flight", False),), "relaxed": False,
        "overhead_ms": 0.3, "duration_ms": 1042.0, "policy": "123456789abc", "input_tokens": 2, "plan": ["api"],
        **given,
    }  # fmt: skip
    return b"2026-11-22 stdout F " + msgspec.json.encode(Line(**told)) + b"\n"


def test_a_logged_request_is_explained_from_its_line(policy: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"not json r1 {\n" + logged(request_id="r11") + logged())
    result = explain(policy, "--request", "r1", "--log", log)
    said = words(result)
    assert result.exit_code == 0
    assert "What happened to r1 at 2026-11-22T13:19:51+00:00" in said
    assert (
        "1. api (shared): dedicated at capacity: 128 of 128 in flight on gpu; answered 200 after 1.04 s, $0.000321"
        in said
    )
    assert "It was decided by policy 123456789abc; this one, " in said
    assert (
        "Goes to `api` (shared): `gpu` (dedicated) would come first, but it is full, with 128 of 128 in flight." in said
    )
    assert "about 2 tokens in" in said


def test_the_log_may_come_from_a_pipe_and_its_own_policy_is_recognised(policy: Path) -> None:
    revision = json.loads(explain(policy, "--model", "chat", "--tenant", "growth", "--format", "json").stdout)["policy"]
    said = words(explain(policy, "--request", "r1", stdin=logged(policy=revision)))
    assert "It was decided by this very policy." in said


def test_a_policy_that_decides_otherwise_says_so(policy: Path) -> None:
    policy.write_text(POLICY.replace("max_in_flight: 64", "max_in_flight: 640"))
    line = logged(route="old", policy="0123456789ab", excluded=())
    result = explain(policy, "--request", "r1", stdin=line)
    assert "It was decided by policy 0123456789ab. This is what policy" in words(result)
    data = json.loads(explain(policy, "--request", "r1", "--format", "json", stdin=line).stdout)
    assert (data["agrees"], data["recorded"]["route"], data["explanation"]["route"]["name"]) == (
        False,
        "old",
        "default",
    )


def test_tags_that_the_tenant_has_no_more_are_not_taken_for_the_requests_own(policy: Path) -> None:
    line = logged(tags=("eval", "vip"), route="eval")
    data = json.loads(explain(policy, "--request", "r1", "--format", "json", stdin=line).stdout)
    assert data["explanation"]["request"]["tags"] == ["eval"]


def test_a_logged_refusal_is_one(policy: Path) -> None:
    out = (Exclusion("", "tenant.rpm", "600 used by tenant:bank", "600", True),)
    line = logged(
        tenant="bank", key="bank/ci", tags=("gdpr",), route="gdpr", attempts=[], plan=None, excluded=out,
        refusal=Refused(429, "rate_limit_exceeded", "tenant.rpm"),
    )  # fmt: skip
    result = explain(policy, "--request", "r1", stdin=line)
    said = words(result)
    assert result.exit_code == 1
    assert "The client got 429 `rate_limit_exceeded` (rule tenant.rpm)." in said
    assert "decides the same." in said
    assert "Refused with 429 `rate_limit_exceeded`: tenant `bank` has used 600 of its 600" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "no request `r1` in the log"),
        (logged(request_id="other"), "no request `r1` in the log"),
        (
            logged(model="", route="", attempts=[], refusal=Refused(401, "invalid_api_key", "auth")),
            "request `r1` never reached the policy: its client got 401 `invalid_api_key`",
        ),
        (logged(tenant="gone"), "request `r1` was served; unknown tenant `gone`"),
        (
            logged(model="caht", route="", attempts=[], plan=None, refusal=Refused(404, "model_not_found", "model")),
            "request `r1` was refused with 404 `model_not_found`; unknown model `caht` (hint: did you mean `chat`?)",
        ),
    ],
)
def test_a_line_that_cannot_be_explained(policy: Path, line: bytes, said: str) -> None:
    result = explain(policy, "--request", "r1", stdin=line)
    assert (result.exit_code, said in words(result)) == (2, True)


def test_a_terminal_is_not_read_for_a_log(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(Unanswerable, match="which log"):
        find(policy, None, {}, None, "r1", "-")


class Terminal:
    def isatty(self) -> bool:
        return True


def test_the_last_request_of_an_id_counts() -> None:
    found = lines_of([logged(route="one"), logged(route="two")], "r1")
    assert [line.route for line in found] == ["one", "two"]


def test_what_was_observed_becomes_readings_and_rates_again() -> None:
    observed = [
        ("gpu", "capacity", "130 of 128 in flight"),
        ("gpu", "want.ttft_p99", "2.31 s"),
        ("gpu", "require.e2e_p50", "900 ms"),
        ("gpu", "want.perceived_tps", "12.5 tokens/s"),
        ("gpu", "want.uptime", "98.00%"),
        ("api", "breaker", "open, next probe in 3.0 s"),
        ("api", "require.region", "us-east-1"),
        ("gone", "engine_full", "said so 0.1 s ago"),
        ("", "key.tpm", "70000 used by key:bank/ci"),
        ("", "want.concurrency", "9 used by route:gdpr"),
    ]
    excluded = tuple(Exclusion(*one, "limit", False) for one in observed)
    (line,) = lines_of([logged(excluded=excluded)], "r1")
    targets = {
        one.name: one for one in (dedicated("gpu", "http://a/v1", "http://b/v1", max_in_flight=64), shared("api"))
    }
    assert readings_words(line, targets) == {
        "gpu": {
            "in_flight": 65,
            "ttft_p99": "2.31 s",
            "e2e_p50": "900 ms",
            "perceived_tps": 12.5,
            "uptime": "98.00%",
        },
        "api": {"breaker": "open"},
    }
    assert rates_words(line) == {"key:bank/ci": {"tokens": 70000}, "route:gdpr": {"in_flight": 9}}


def test_a_logged_request_that_nothing_paid_for_is_explained_from_its_line(budgeted: Path) -> None:
    spent = Exclusion("api", "budget:spill", "$500 spent", "$500 a day", True)
    gone = Exclusion("api", "budget:gone", "$5 spent", "$5 in all", True)
    full = Exclusion("gpu", "capacity", "128 of 128 in flight", "128 in flight", False)
    line = logged(excluded=(full, spent, gone), attempts=[tried("unpriced", Lane.SHARED, "full")], plan=["unpriced"])
    (read,) = lines_of([line], "r1")
    assert budgets_words(read) == {"spill": "exhausted", "gone": "exhausted"}
    data = json.loads(explain(budgeted, "--request", "r1", "--format", "json", stdin=line).stdout)
    assert data["agrees"]
    assert [one["over"] for one in data["explanation"]["budgets"]] == [False, True]
    refused = logged(
        excluded=(full, spent), attempts=[], plan=None, refusal=Refused(429, "budget_unavailable", "budget:spill")
    )
    (read,) = lines_of([refused], "r1")
    assert budgets_words(read) == {"spill": "unavailable"}


async def test_a_running_proxy_is_asked(policy: Path, tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "data") as store:
        await _ask_a_running_proxy(policy, store.url)


async def _ask_a_running_proxy(policy: Path, store_url: str) -> None:
    served = snapshot_of(
        dedicated("gpu", "http://127.0.0.1:1/v1", max_in_flight=4), shared("api", "http://127.0.0.1:1/v1")
    )
    served = replace(served, budgets=(Budget(name="spill", caps=(Cap(5 * 10**9, Per.DAY),)),))
    full = readings(policy, "gpu: {in_flight: 4}\n")
    async with proxy(served, store_url=store_url) as spillway:
        live = ("--live", f"http://127.0.0.1:{spillway.admin_port}")
        result = await asyncio.to_thread(explain, "--model", "m", *live)
        spilled = await asyncio.to_thread(explain, "--model", "m", *live, "--readings", full)
        poor = await asyncio.to_thread(explain, "--model", "m", *live, "--exhausted", "spill", "--readings", full)
        unknown = await asyncio.to_thread(explain, "--model", "nope", *live)
        another = await asyncio.to_thread(find, policy, live[1], {"model": "m"}, None, None, "-")
        elsewhere = await asyncio.to_thread(explain, "--model", "m", "--live", f"http://127.0.0.1:{spillway.port}")
    assert result.exit_code == 0
    assert f"policy what the proxy at http://127.0.0.1:{spillway.admin_port} serves, revision dddd" in words(result)
    assert f" serves, and not {policy}, which is revision " in another.policy
    assert "seen: 0 of 4 in flight" in words(result)
    assert (
        "Goes to `api` (shared): `gpu` (dedicated) would come first, but it is full, with 4 of 4 in flight."
        in words(spilled)
    )
    assert (poor.exit_code, "429 budget_exceeded" in words(poor)) == (1, True)
    assert (unknown.exit_code, "unknown model `nope`" in unknown.stderr) == (2, True)
    assert (elsewhere.exit_code, "unknown request URL" in elsewhere.stderr) == (2, True)


LATE = Exclusion("gpu", "ttft", "predicted 2.3 s (queue 21k tokens, 38 streams)", "1.8 s", False)
QUEUE = '{gpu: {queued_tokens: "21k", decoding: 38, ttft_factor: 1.3}}'
SPILLED = "spilled: predicted ttft 2.3 s > 1.8 s (queue 21k tokens, 38 streams) on gpu"


def test_work_that_is_made_up_is_told_with_what_is_predicted_of_it(policy: Path) -> None:
    result = explain(policy, "--model", "chat", "--tenant", "growth", "--readings", readings(policy, QUEUE))
    said = words(result)
    assert "Goes to `api` (shared): `gpu` (dedicated) would come first, but the request's ttft" in said
    assert "seen of each replica: 0 of 64 in flight, predicted TTFT 2" in said
    assert "(queue 21,000 tokens, 38 streams over 0; 1.30 and 1.00 times the profile's, of 0 waits)" in said


def test_a_logged_spillover_is_decided_again_from_the_numbers_in_its_line(policy: Path) -> None:
    line = logged(excluded=(LATE,), attempts=[tried("api", Lane.SHARED, SPILLED)], input_tokens=1000)
    data = json.loads(explain(policy, "--request", "r1", "--format", "json", stdin=line).stdout)
    assert data["agrees"]
    first, *others = data["explanation"]["targets"]
    assert (first["target"], first["places"][0]["reason"]) == ("api", SPILLED)
    (gpu,) = [one for one in others if one["target"] == "gpu"]
    assert gpu["out"] == {"target": "gpu", "rule": "ttft", "observed": LATE.observed, "limit": "1.8 s", "hard": False}
    assert gpu["observed"][0]["work"]["queued_tokens"] == 21_000


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (
            Exclusion("gpu", "itl", "predicted 61 ms (queue 900 tokens, 70 streams)", "43 ms", False),
            {"waiting": 1, "queued_tokens": 900, "decoding": 70},
        ),
        (Exclusion("gpu", "ttft", "nothing that can be read", "1.8 s", False), {}),
        (
            Exclusion("gpu", "kv", "446k tokens of context", "447k tokens in memory", False),
            {"context_tokens": 447_000, "decoding": 1},
        ),
        (Exclusion("gpu", "bid", "worth $2 an engine hour", "$3 an engine hour", False), {}),
    ],
)
def test_what_a_line_tells_of_work_and_what_it_does_not(policy: Path, out: Exclusion, words: dict[str, int]) -> None:
    (line,) = lines_of([logged(excluded=(out,))], "r1")
    found = readings_words(line, compiled(policy).targets).get("gpu", {})
    factor = found.pop("itl_factor", None)
    assert found == words
    assert (factor is not None) is (out.rule == "itl")
