"""What `spillway top` shows: the whole screen, put together from its sections, as high and wide as the terminal is.

Theory of operation
-------------------
Sections are tables without frames, so that every row says something. Header and money always fit; targets, routes and
budgets get what they need while three decisions are left, and then each a fair part, the fullest first; the decisions
have the rest. A row that does not fit is counted in the last one that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from proxy.cli.top_rows import budget_rows, decision_rows, decisions_of, replica_rows, route_rows, target_rows
from proxy.cli.top_section import WIDE
from proxy.cli.top_words import DIM, GREEN, LANES, RED, YELLOW, percent, plain, rate, seconds, spark, usd, word
from proxy.live.view import LiveView
from proxy.policy.model import Lane

MIN_DECISIONS = 3
ROOMY_HEIGHT = 30
_ALL = 10_000


@dataclass(frozen=True, slots=True)
class Frame:
    """How much room there is; `height` None is as much as it takes. `note` is what is to be said of the view itself."""

    width: int
    height: int | None
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether there is room for more columns than the most important ones."""
        return self.width >= WIDE

    @property
    def roomy(self) -> bool:
        """Whether there is room for lines that only please the eye."""
        return self.height is None or self.height >= ROOMY_HEIGHT


def picture(view: LiveView, frame: Frame) -> RenderableType:
    """The whole screen."""
    head = _head(view, frame)
    sections = [target_rows(view), route_rows(view), budget_rows(view)]
    if frame.roomy and frame.wide:
        sections.insert(1, replica_rows(view))
    sections = [one for one in sections if one.rows]
    gap = 1 if frame.roomy else 0
    if frame.height is not None:
        head = head[: max(2, frame.height - 4)]
        sections = sections[: max(0, (frame.height - len(head) - 2) // (2 + gap))]
    room = _ALL if frame.height is None else frame.height - len(head) - gap * (len(sections) + 1)
    most = min(len(view.decisions) + len(view.notable), 12) if frame.height is None else None
    heights = shared_out([len(one.rows) + 1 for one in sections], room - MIN_DECISIONS - 1)
    left = room - sum(heights) - 1 if most is None else most
    parts: list[RenderableType] = list(head)
    for section, height in zip(sections, heights, strict=True):
        parts += [Text("")] * gap + [section.drawn(height - 1, frame.width)]
    parts += [Text("")] * gap
    last = decision_rows(decisions_of(view, max(1, left)), wide=frame.wide)
    parts.append(last.drawn(max(1, left), frame.width))
    return Group(*parts)


def shared_out(wanted: Sequence[int], room: int) -> list[int]:
    """The lines of each section: what it wants if all fit, else what is left of the room by turns; two at least."""
    given = [min(2, one) for one in wanted]
    while sum(given) < room:
        hungry = [at for at, one in enumerate(wanted) if given[at] < one]
        if not hungry:
            break
        given[min(hungry, key=lambda at: given[at])] += 1
    return given


def summary(view: LiveView) -> str:
    """The moment in one line of plain text, for what is no terminal."""
    lanes = {lane: sum(one.requests_per_s_here for one in view.targets if one.lane is lane) for lane in Lane}
    flying = {lane: sum(one.in_flight for one in view.targets if one.lane is lane) for lane in Lane}
    money = view.money
    per_h = {Lane.DEDICATED: None, Lane.SHARED: None} if money is None else _by_lane(view)
    told = [
        f"{lane.value} {flying[lane]} in flight {rate(lanes[lane])} req/s {usd(per_h[lane])}/h"
        for lane in (Lane.DEDICATED, Lane.SHARED)
    ]
    saving = "" if money is None else f"  saving {usd(money.saving_nano_usd_per_h, signed=True)}/h"
    worst = max([one.latency_here.ttft.p99_s or 0.0 for one in view.routes], default=0.0)
    trouble = "  degraded: " + ", ".join(sorted(view.health.degraded)) if view.health.degraded else ""
    return (
        f"{_clock(view.as_of)}  {view.health.status}  {'  '.join(told)}  spilled {percent(_spill(view))}"
        f"  ttft p99 {seconds(worst or None)}{saving}{trouble}"
    )


def _head(view: LiveView, frame: Frame) -> list[Text]:
    lines = [_title(view, frame), _money(view, 3 if frame.wide else 2)]
    if frame.roomy:
        lines.append(_charts(view, frame.width))
    lines += [_line(text, YELLOW) for text in troubles(view)]
    if frame.note:
        lines.append(_line(frame.note, RED))
    return lines


def troubles(view: LiveView) -> list[str]:
    """What does not work as it should."""
    found = [f"degraded: {part}: {text}" for part, text in view.health.degraded.items()]
    error = view.policy.error
    if error is not None:
        more = f" (and {error.problem_count - 1} more)" if error.problem_count > 1 else ""
        found.append(f"the text on the disk is not served: {error.problems[0] if error.problems else ''}{more}")
    return found


def _title(view: LiveView, frame: Frame) -> Text:
    ready = view.health.status == "ready"
    requests = sum(one.requests_per_s_here for one in view.targets)
    worker = "" if view.worker is None else f" worker {view.worker}"
    generation = f" generation {view.policy.generation}" if frame.wide else f" #{view.policy.generation}"
    left = Text.assemble(
        (f" spillway {plain(view.version)}{worker} ", "bold reverse"),
        "  ",
        (view.health.status, "bold green" if ready else "bold yellow"),
        (f"   {rate(requests)} req/s", "bold"),
        "  spilled ",
        (percent(_spill(view)), "bold yellow" if _spill(view) else "bold green"),
        f"   policy {plain(view.policy.revision)[: 12 if frame.wide else 6]}",
        (generation, DIM),
        (f"   up {seconds(view.as_of - view.started_at)}", DIM),
    )
    if view.waiting_room_here:
        left.append(f"  {view.waiting_room_here} waiting", YELLOW)
    return _justified(left, Text(_clock(view.as_of), DIM), frame.width)


def _money(view: LiveView, gap: int) -> Text:
    money = view.money
    if money is None:
        return _line(" money: the meters have not said anything yet", DIM)
    idle = money.idle_nano_usd_per_h / money.dedicated_nano_usd_per_h if money.dedicated_nano_usd_per_h else None
    saving, today, space = money.saving_nano_usd_per_h, money.today, " " * gap
    text = Text.assemble(
        " GPUs ",
        (f"{usd(money.dedicated_nano_usd_per_h)}/h", f"bold {LANES['dedicated']}"),
        ("" if idle is None else f" {idle:.0%} idle", DIM),
        f"{space}shared ",
        (f"{usd(money.shared_nano_usd_per_h)}/h", f"bold {LANES['shared']}"),
        no_wrap=True,
        overflow="ellipsis",
    )
    if saving is not None:
        text.append(f"{space}saving ")
        text.append(f"{usd(saving, signed=True)}/h", f"bold {GREEN if saving >= 0 else 'red'}")
    if today is not None:
        text.append(f"{space}today ", DIM)
        text.append(f"{usd(today.provisioned_nano_usd)} + {usd(today.shared_nano_usd)}")
    return text


def _charts(view: LiveView, width: int) -> Text:
    """Requests of both lanes, the share that spilled, and the slowest first tokens, over the last minutes."""
    history = view.history
    room = max(8, (width - 42) // 3)
    both = [a + b for a, b in zip(history.dedicated_requests_per_s, history.shared_requests_per_s, strict=True)]
    ttfts = list(history.ttft_p99_s)
    highest = max([one for one in ttfts if one is not None], default=None)
    return Text.assemble(
        (" req/s ", DIM),
        (spark(list(both), room), "cyan"),
        (f" {rate(max(both, default=0.0)):<6}", DIM),
        (" spilled ", DIM),
        (spark(list(history.spill_share), room, top=1.0), LANES["shared"]),
        ("  ttft p99 ", DIM),
        (spark(ttfts, room), "magenta"),
        (f" {seconds(highest)}", DIM),
        no_wrap=True,
        overflow="crop",
    )


def _spill(view: LiveView) -> float | None:
    """The share of all requests of the last minute that left dedicated."""
    requests = sum(one.requests_here for one in view.routes)
    spilled = sum(sum(one.spilled_by_here.values()) for one in view.routes)
    return spilled / requests if requests else None


def _by_lane(view: LiveView) -> dict[Lane, float | None]:
    assert view.money is not None
    return {Lane.DEDICATED: view.money.dedicated_nano_usd_per_h, Lane.SHARED: view.money.shared_nano_usd_per_h}


def _justified(left: Text, right: Text, width: int) -> Text:
    left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
    left.pad_right(max(1, width - left.cell_len - right.cell_len))
    left.append_text(right)
    left.no_wrap, left.overflow = True, "crop"
    return left


def _line(text: str, style: str) -> Text:
    return word(f" {text.strip()}", style)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
