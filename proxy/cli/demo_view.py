"""How the demo looks: a live picture for a terminal, a line a second for anything else, and the closing summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from proxy.cli.demo_money import Bill, Purse
from proxy.cli.demo_stage import MAX_IN_FLIGHT
from proxy.cli.demo_story import DEDICATED, LANES, SHARED, LaneStory, Story, quantile

_COLOURS = {DEDICATED: "green", SHARED: "yellow"}
_NAMES = {DEDICATED: "DEDICATED  your GPUs: 2 x H100", SHARED: "SHARED  a provider, per token"}
_BARS = " ▁▂▃▄▅▆▇█"
_SQUARES = 12
_FIXED_LINES = 18


@dataclass(frozen=True, slots=True)
class Frame:
    """What the view shows at one moment; by lane: requests in flight and output tokens per second."""

    at_s: float
    now: float
    rate: float
    url: str
    console_url: str
    in_flight: dict[str, int]
    tokens_per_s: dict[str, float]


def picture(story: Story, purse: Purse, frame: Frame, width: int, height: int) -> RenderableType:
    """The whole screen."""
    lanes = Table.grid(expand=True)
    for _ in LANES:
        lanes.add_column(ratio=1)
    lanes.add_row(*(_lane(lane, story.lanes[lane], purse, frame) for lane in LANES))
    room = max(2, height - _FIXED_LINES)
    return Group(
        _header(story, frame),
        lanes,
        Text(f" {_comparison(purse)}"),
        _spill(story, frame, width),
        _events(story),
        _choices(story, room),
    )


def line(story: Story, purse: Purse, frame: Frame) -> str:
    """One moment as a line of text."""
    share = story.recent_spill_share(frame.now)
    dedicated, shared = (story.lanes[lane] for lane in LANES)
    return (
        f"{frame.at_s:5.1f} s  load {frame.rate:4.1f}/s"
        f"  dedicated {frame.in_flight[DEDICATED]:2d}/{MAX_IN_FLIGHT} in flight, ${purse.total(DEDICATED).usd:.4f},"
        f" ttft p99 {_seconds(dedicated.recent_ttft_s(0.99, frame.now))}"
        f"  shared {frame.in_flight[SHARED]:2d} in flight, ${purse.total(SHARED).usd:.4f},"
        f" ttft p99 {_seconds(shared.recent_ttft_s(0.99, frame.now))}"
        f"  spilled {_percent(share)}{_failures(story)[0]}"
    )


def summary(story: Story, purse: Purse, provider_nano_usd: int, at_s: float) -> RenderableType:
    """What happened, in a dozen lines."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("lane", "requests", "share", "TTFT p50", "p99", "cost", "$/M tokens"):
        table.add_column(name, justify="left" if name == "lane" else "right")
    answered = sum(lane.ended for lane in story.lanes.values())
    for name in LANES:
        lane, bill = story.lanes[name], purse.total(name)
        share = lane.ended / answered if answered else None
        waits = (_seconds(quantile(lane.waits_s, of)) for of in (0.5, 0.99))
        table.add_row(
            Text(name, _COLOURS[name]),
            f"{lane.ended}",
            _percent(share),
            *waits,
            f"${bill.usd:.4f}",
            _price(bill),
        )
    failed = story.failures.total()
    lines = [f"{answered} requests answered, {failed} failed, in {at_s:.0f} s (upstreams, load and dollars SIMULATED)"]
    lines += [f"  {count} x {why}" for why, count in story.failures.most_common(3)]
    return Group(Text("spillway demo", "bold"), *map(Text, lines), table, *_verdict(story, purse, provider_nano_usd))


def _verdict(story: Story, purse: Purse, provider_nano_usd: int) -> list[Text]:
    spent = purse.total(SHARED).nano_usd
    lines = []
    for event, otherwise in ((story.began, "nothing spilled"), (story.returned, "traffic did not come back")):
        lines.append(Text(f"at {event.at_s:.1f} s {event.text}") if event else Text(otherwise, "red"))
    lines.append(
        Text(
            f"shared spend: ${spent / 1e9:.6f} by the proxy's meters, ${provider_nano_usd / 1e9:.6f} by the provider's"
        )
    )
    return [*lines, Text(_comparison(purse))]


def _comparison(purse: Purse) -> str:
    """What both lanes cost together, beside what the provider alone would have charged."""
    dedicated, shared = purse.total(DEDICATED), purse.total(SHARED)
    together = f"together ${dedicated.usd + shared.usd:.4f}"
    if dedicated.nano_usd_at_shared_prices is None:
        return together
    alone = dedicated.nano_usd_at_shared_prices + shared.nano_usd
    return f"{together}; the same tokens from the provider alone ${alone / 1e9:.4f}"


def _header(story: Story, frame: Frame) -> Panel:
    state = ("spilling", "bold yellow") if story.spilling else ("all on your GPUs", "bold green")
    text = Text.assemble(
        (f"{frame.at_s:5.1f} s", "bold"),
        "   load ",
        (f"{frame.rate:4.1f} requests/s", "bold"),
        "   ",
        state,
        _failures(story),
    )
    title = "[bold]spillway demo[/]  [reverse] SIMULATED [/] upstreams, load and dollars; the proxy is real"
    subtitle = f"proxy {frame.url}  console {frame.console_url}  Ctrl-C"
    return Panel(text, title=title, title_align="left", subtitle=subtitle, subtitle_align="right", border_style="cyan")


def _failures(story: Story) -> tuple[str, str]:
    """How many requests failed, and mostly why; nothing when none did."""
    if not story.failures:
        return "", ""
    return f"   {story.failures.total()} failed: {story.failures.most_common(1)[0][0]}", "bold red"


def _lane(lane: str, story: LaneStory, purse: Purse, frame: Frame) -> Panel:
    colour, in_flight = _COLOURS[lane], frame.in_flight[lane]
    rows = Table.grid(padding=(0, 2, 0, 0))
    limit = f"of {MAX_IN_FLIGHT}" if lane == DEDICATED else ""
    squares = min(_SQUARES, round(in_flight * _SQUARES / MAX_IN_FLIGHT))
    rows.add_row("in flight", Text.assemble(("■" * squares, colour), f" {in_flight} {limit}"))
    rows.add_row("requests", f"{story.answered}   {frame.tokens_per_s[lane]:.0f} tokens/s out")
    ttfts = [_seconds(story.recent_ttft_s(of, frame.now)) for of in (0.5, 0.99)]
    rows.add_row("TTFT", f"p50 {ttfts[0]}   p99 {ttfts[1]}")
    bill, meter = purse.total(lane), "by the clock" if lane == DEDICATED else "by the token"
    rows.add_row("spent", f"${bill.usd:.4f} {meter}")
    rows.add_row("$/M tokens", f"{_price(bill)} so far   {_price(purse.recent(lane))} now")
    return Panel(rows, title=_NAMES[lane], title_align="left", border_style=colour)


def _spill(story: Story, frame: Frame, width: int) -> RenderableType:
    shares = story.spill_shares(frame.now, max(10, width - 30))
    share = story.recent_spill_share(frame.now)
    return Text.assemble((" spilled ", "bold"), (sparkline(shares), "yellow"), f" {_percent(share)} of the last 3 s\n")


def _events(story: Story) -> RenderableType:
    lines = [
        _short(f" {event.at_s:5.1f} s  {event.text}", "bold yellow" if event.spilling else "bold green")
        for event in story.events[-3:]
    ]
    return Group(*lines, *[Text("")] * (4 - len(lines)))


def _choices(story: Story, room: int) -> RenderableType:
    heading = _short(" the last decisions, from x-spillway-target and x-spillway-reason", "dim")
    lines = [
        Text.assemble(
            f" {choice.at_s:5.1f} s  ",
            (f"{choice.target:<18}", _COLOURS[choice.lane]),
            f"  {choice.reason}",
            no_wrap=True,
            overflow="ellipsis",
        )
        for choice in list(story.choices)[-room:]
    ]
    return Group(heading, *lines)


def _short(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def sparkline(shares: Sequence[float | None]) -> str:
    """Shares between 0 and 1 as bars; nothing where there is none."""
    return "".join(" " if share is None else _BARS[1 + round(share * (len(_BARS) - 2))] for share in shares)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _price(bill: Bill) -> str:
    return "-" if bill.usd_per_mtok is None else f"{bill.usd_per_mtok:.2f}"
