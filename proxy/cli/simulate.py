"""`spillway simulate`: the simulators on their own, to try a policy against without a GPU or a provider's key."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.simulator.profile import PROFILES

if TYPE_CHECKING:
    from proxy.simulator.front import Front

app = typer.Typer(no_args_is_help=True, help="Run a simulated engine or a simulated shared provider.")

Host = Annotated[str, typer.Option(help="Address to listen on")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one")]
Model = Annotated[str, typer.Option(help="The model name that is served")]
ApiKey = Annotated[str | None, typer.Option(help="Ask callers for this key")]


@app.command()
def engine(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    model: Model = "simulated-llama",
    api_key: ApiKey = None,
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}")] = "70b-fp8-2xh100",
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="As vLLM's")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="As vLLM's")] = None,
    max_num_queued_reqs: Annotated[int | None, typer.Option(min=1, help="As vLLM's: 503 beyond")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="Simulated seconds in a real one")] = 1.0,
) -> None:
    """A vLLM that follows the linear step model, with its /metrics and its 503 when it is full."""
    from proxy.simulator.engine import EngineSimulator

    if profile not in PROFILES:
        raise typer.BadParameter(f"`{profile}` is no profile; known: {', '.join(PROFILES)}", param_hint="--profile")
    known = PROFILES[profile]
    try:
        shape = replace(
            known,
            max_seqs=max_num_seqs or known.max_seqs,
            max_batched_tokens=max_num_batched_tokens or known.max_batched_tokens,
            max_requests=max_num_queued_reqs,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asyncio.run(_serve(EngineSimulator(shape, model=model, host=host, port=port, api_key=api_key, speed=speed)))


@app.command()
def provider(
    port: Port = 8001,
    host: Host = "127.0.0.1",
    model: Model = "simulated-llama",
    api_key: ApiKey = None,
    input_price: Annotated[float, typer.Option(min=0, help="$ per million prompt tokens")] = 0.72,
    output_price: Annotated[float, typer.Option(min=0, help="$ per million answer tokens")] = 0.72,
    ttft: Annotated[float, typer.Option(min=0.001, help="Median seconds to the first token")] = 0.45,
    tokens_per_s: Annotated[float, typer.Option(min=0.1, help="Pace of the others")] = 70.0,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute; 429 beyond")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute; 429 beyond")] = None,
    fixed_window: Annotated[bool, typer.Option(help="Limits come back at the end of a window, not evenly")] = False,
    period: Annotated[float, typer.Option(min=1, help="Seconds of a window, with its part of a minute's worth")] = 60.0,
    limit_headers: Annotated[bool, typer.Option(help="Tell of the limits in x-ratelimit-* headers")] = True,
) -> None:
    """A shared API with a price, a latency and rate limits."""
    from proxy.simulator.provider import ProviderSimulator, Terms

    terms = Terms(
        input_nano_usd_per_mtok=round(input_price * 1e9),
        output_nano_usd_per_mtok=round(output_price * 1e9),
        ttft_median_s=ttft,
        ttft_p99_s=3.6 * ttft,
        tokens_per_s=tokens_per_s,
        rpm=rpm,
        tpm=tpm,
        fixed_window=fixed_window,
        period_s=period,
        headers=limit_headers,
    )
    asyncio.run(_serve(ProviderSimulator(terms, model=model, host=host, port=port, api_key=api_key)))


async def _serve(simulator: Front) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with simulator:
            print(f"simulated: {simulator.model} at {simulator.url}; nothing here is real", flush=True)
            await stop.wait()
    except OSError as error:
        print(f"cannot listen: {error.strerror or error}", file=sys.stderr)
        raise typer.Exit(1) from None
