"""`spillway calibrate`: measures how long the steps of a live engine take, with a bounded load, and how to start it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from proxy.advisor.experiment import Run
    from proxy.advisor.timings import Observed
    from proxy.cli.calibrate_report import Aim, Calibration
    from proxy.cli.calibrate_streams import Place, Standing

Target = Annotated[str, typer.Argument(help="A dedicated target of the policy")]
Policy = Annotated[Path | None, typer.Option(help="Policy file, or a folder of them")]
Replica = Annotated[int, typer.Option(min=0, help="Which of the target's urls, counted from 0")]
Url = Annotated[str, typer.Option(help="Instead of a target: the base URL of an engine, which ends in /v1")]
Model = Annotated[str, typer.Option(help="With --url: what the engine calls the model")]
KeyEnv = Annotated[str, typer.Option(metavar="NAME", help="With --url: the variable that holds the engine's key")]
MostSeconds = Annotated[float, typer.Option(min=1, help="The load ends after this time")]
MostTokens = Annotated[int, typer.Option(min=1, help="The load is made no larger, prompts and answers together")]
Concurrency = Annotated[int, typer.Option(min=2, help="Requests at one time, at most")]
Prompt = Annotated[int, typer.Option(min=128, help="Tokens of the longest prompt")]
Itl = Annotated[str, typer.Option(help="The gap between tokens to keep")]
Ttft = Annotated[str, typer.Option(help="The time to the first token to keep")]
Inputs = Annotated[int, typer.Option(min=1, help="Tokens of a usual prompt, for the advice")]
Outputs = Annotated[int, typer.Option(min=1, help="Tokens of a usual answer")]
ROOMY = 0.8
"""The share of a context window that a prompt may take."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]


class _Subject(NamedTuple):
    """What is measured, with what the policy says of it: tokens of a step, and of a request."""

    name: str
    place: Place
    chunk_tokens: int | None = None
    context_tokens: int | None = None


class _Bounds(NamedTuple):
    """What the load may be."""

    most_s: float
    most_tokens: int
    concurrency: int
    prompt_tokens: int

    def runs(self, *windows: int | None) -> tuple[Run, ...]:
        """The load: its longest prompt leaves room for an answer in each of the windows that are known."""
        from proxy.advisor.experiment import within

        longest = min([self.prompt_tokens, *(int(ROOMY * window) for window in windows if window)])
        runs = within(self.most_tokens, longest, self.concurrency)
        if not runs:
            _fail(f"{self.most_tokens} tokens are too few to measure anything (hint: raise `--max-tokens`)", 2)
        return runs


def calibrate(
    target: Target = "",
    policy: Policy = None,
    replica: Replica = 0,
    url: Url = "",
    model: Model = "",
    api_key_env: KeyEnv = "",
    max_seconds: MostSeconds = 120.0,
    max_tokens: MostTokens = 500_000,
    concurrency: Concurrency = 32,
    prompt_tokens: Prompt = 8192,
    itl: Itl = "50ms",
    ttft: Ttft = "2s",
    input_tokens: Inputs = 1000,
    output_tokens: Outputs = 200,
    as_json: AsJson = False,
) -> None:
    """Measure an engine's steps, and how to start it for an objective. Choose a replica that nobody else uses.

    Exit status: 0 measured, 1 the engine refused, failed or told too little, 2 there is no such target, 130 Ctrl-C.
    """
    try:
        from proxy.advisor.fit import TooLittle
    except ImportError:
        _fail("calibrate needs numpy and scipy (hint: pip install 'spillway-proxy[advisor]')", 1)
    from proxy.cli.calibrate_report import Aim, as_text
    from proxy.cli.calibrate_report import as_json as to_json
    from proxy.cli.calibrate_streams import EngineFailed

    aim = Aim(
        itl_s=_duration(itl, "--itl"),
        ttft_s=_duration(ttft, "--ttft"),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
    subject = _stated(url, model, api_key_env) if url else _of_policy(target, policy, replica)
    bounds = _Bounds(max_seconds, max_tokens, concurrency, prompt_tokens)
    try:
        found = asyncio.run(_measured(subject, bounds, aim))
    except EngineFailed as error:
        _fail(f"not calibrated: {error}", 1)
    except TooLittle as error:
        _fail(f"not calibrated: {error} (hint: raise `--max-seconds`, `--max-tokens` or `--concurrency`)", 1)
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        raise typer.Exit(130) from None
    typer.echo(to_json(found) if as_json else as_text(found))


async def _measured(subject: _Subject, bounds: _Bounds, aim: Aim) -> Calibration:
    from proxy.advisor.engine_advice import advise
    from proxy.advisor.fit import fit
    from proxy.cli.calibrate_report import Calibration
    from proxy.cli.calibrate_runs import carry_out
    from proxy.cli.calibrate_streams import Engine

    async with Engine(subject.place) as engine:
        standing = await engine.standing()
        runs = bounds.runs(subject.context_tokens, standing.context_tokens)
        _announce(subject.place, runs, bounds.most_s)
        _warn(standing)
        started = monotonic()
        observed = await carry_out(engine, runs, bounds.most_s, _tell)
        seconds = monotonic() - started
    fitted = fit(observed, chunk_tokens=subject.chunk_tokens, kv_tokens=standing.kv_tokens)
    advice = advise(
        fitted.profile,
        itl_s=aim.itl_s,
        ttft_s=aim.ttft_s,
        input_tokens=aim.input_tokens,
        output_tokens=aim.output_tokens,
    )
    return Calibration(
        target=subject.name,
        url=subject.place.url,
        model=subject.place.model,
        fit=fitted,
        aim=aim,
        advice=advice,
        runs=len(observed),
        planned=len(runs),
        tokens=engine.spent_tokens,
        seconds=seconds,
    )


def _stated(url: str, model: str, api_key_env: str) -> _Subject:
    from proxy.cli.calibrate_streams import Place
    from proxy.policy.model import Secret

    if not model:
        _fail("`--url` needs `--model`, what the engine calls the model", 2)
    key = os.environ.get(api_key_env, "")
    if api_key_env and not key:
        _fail(f"the environment variable `{api_key_env}` is not set", 2)
    return _Subject(model, Place(url=url, model=model, api_key=Secret(key) if key else None))


def _of_policy(name: str, policy: Path | None, replica: int) -> _Subject:
    """One replica of a target."""
    from proxy.cli.calibrate_streams import Place
    from proxy.cli.policy_assumed import listing
    from proxy.policy.compile import compile_policy
    from proxy.policy.model import Lane
    from proxy.policy.problem import PolicyError
    from proxy.policy.words import did_you_mean

    if not name or policy is None:
        _fail("name a target and its `--policy`, or an engine's `--url` and `--model`", 2)
    if not policy.exists():
        _fail(f"no such file or folder: `{policy}`", 2)
    try:
        targets = compile_policy(policy, env=os.environ, price_of=lambda *_: None).targets
    except PolicyError as error:
        _fail(listing(error.problems), 2)
    target = targets.get(name)
    if target is None:
        _fail(f"no target `{name}` in `{policy}` (hint: {did_you_mean(name, targets)})", 2)
    if target.lane is not Lane.DEDICATED:
        _fail(f"`{name}` is a shared target: what a provider's engine does is its own business", 2)
    if replica >= len(target.urls):
        _fail(f"`{name}` has {len(target.urls)} urls, counted from 0: there is no `--replica {replica}`", 2)
    place = Place(url=target.urls[replica], model=target.model, api_key=target.api_key, parameters=target.parameters)
    return _Subject(name, place, target.max_batched_tokens, target.context_window)


def _duration(value: str, option: str) -> float:
    from proxy.policy.problem import Mistake
    from proxy.policy.units import duration_s

    try:
        return duration_s(value)
    except Mistake as mistake:
        raise typer.BadParameter(f"{mistake.message} (hint: {mistake.hint})", param_hint=option) from None


def _announce(place: Place, runs: tuple[Run, ...], most_s: float) -> None:
    from proxy.advisor.experiment import cost, warming

    at_once = max(run.decoders for run in runs)
    (longest,) = warming(runs).joining
    print(
        f"sending to `{place.model}` at {place.url}: {len(runs)} runs, at most {cost(runs):,} tokens"
        f" and {most_s:g} s, up to {at_once} requests at one time with prompts of up to {longest} tokens;"
        " Ctrl-C ends it at once",
        file=sys.stderr,
    )


def _warn(standing: Standing) -> None:
    if standing.requests:
        print(f"the engine has {standing.requests} requests of others, which spoil the measurement", file=sys.stderr)


def _tell(run: Run, observed: Observed) -> None:
    from proxy.advisor.timings import decoding

    what = f"{run.decoders} x {run.prompt_tokens} tokens" if run.decoders else "alone"
    steps = [row.seconds for row in decoding(observed)]
    told = f"{sum(steps) / len(steps) * 1000:.2f} ms a step" if steps else f"{len(observed.joined)} prompts read"
    print(f"  {what}: {told}", file=sys.stderr)


def _fail(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(status)
