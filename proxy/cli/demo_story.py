"""What the demo has seen so far: counts, latencies and the moments at which spilling began and ended.

Theory of operation
-------------------
A pure account of the load's visits; the view and the summary only read it, and the caller owns time. Everything is
told from the client's side, that is from the proxy's response headers: the lane and the reason are what an application
would see. Spilling begins with the first answer from the shared lane; it is over when only the dedicated lane has
answered for `QUIET_S` seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import ceil

from proxy.simulator.load import Turn, Visit

DEDICATED, SHARED = "dedicated", "shared"
LANES = (DEDICATED, SHARED)

QUIET_S = 2.5
"""How long the shared lane must have been silent, while the dedicated one answers, to say that traffic is back."""

WINDOW_S = 10.0
_HISTORY_S = 600


@dataclass(frozen=True, slots=True)
class Event:
    """A turning point, `at_s` seconds after the start."""

    at_s: float
    text: str
    spilling: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of the proxy, as its response headers tell it."""

    at_s: float
    target: str
    lane: str
    reason: str


@dataclass(slots=True)
class LaneStory:
    """One lane's answers. `ttft_s` are (time, seconds) of late, `waits_s` all of them."""

    answered: int = 0
    ended: int = 0
    failed: int = 0
    output_tokens: int = 0
    ttft_s: deque[tuple[float, float]] = field(default_factory=deque)
    waits_s: list[float] = field(default_factory=list)

    def recent_ttft_s(self, share: float, now: float) -> float | None:
        """This quantile of TTFT over the last `WINDOW_S`, None when nothing came."""
        return quantile([wait for at, wait in self.ttft_s if at > now - WINDOW_S], share)


class Story:
    """The demo's account. `started_s` is on the visits' clock."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.lanes = {lane: LaneStory() for lane in LANES}
        self.events: list[Event] = []
        self.choices: deque[Choice] = deque(maxlen=50)
        self.failures: Counter[str] = Counter()
        self.spilling = False
        self.began: Event | None = None
        self.returned: Event | None = None
        self._seconds: deque[tuple[int, Counter[str]]] = deque(maxlen=_HISTORY_S)
        self._last_spill_s = started_s
        self._dedicated_since_spill = 0

    @property
    def requests(self) -> int:
        """Requests that have ended, one way or the other."""
        return sum(lane.ended for lane in self.lanes.values()) + sum(self.failures.values())

    @property
    def complete(self) -> bool:
        """Whether the load has been served by the dedicated lane, has spilled, and has come back."""
        return self.began is not None and self.returned is not None and self.lanes[DEDICATED].answered > 0

    def listen(self, visit: Visit, turn: Turn, now: float) -> None:
        """Take note of a visit's turn."""
        lane = visit.headers.get("x-spillway-lane", "")
        story = self.lanes.get(lane)
        if turn is Turn.ENDED and visit.failure is not None:
            self.failures[visit.failure] += 1
        elif story is None or visit.status != 200:
            return
        elif turn is Turn.ANSWERED:
            story.answered += 1
            self._answered(lane, visit, now)
        elif turn is Turn.BEGUN:
            story.waits_s.append(now - visit.sent_s)
            story.ttft_s.append((now, now - visit.sent_s))
            while story.ttft_s[0][0] <= now - WINDOW_S:
                story.ttft_s.popleft()
        else:
            story.ended += 1
            story.output_tokens += visit.tokens

    def spill_shares(self, now: float, last_s: int) -> list[float | None]:
        """The shared lane's share of each second's answers, oldest first; None for a second without an answer."""
        seen, second = dict(self._seconds), int(now - self.started_s)
        return [_spill_share(seen.get(at)) for at in range(max(0, second - last_s + 1), second + 1)]

    def recent_spill_share(self, now: float, span_s: int = 3) -> float | None:
        """The same over the last seconds."""
        second = int(now - self.started_s)
        return _spill_share(sum((count for at, count in self._seconds if at > second - span_s), Counter()))

    def _answered(self, lane: str, visit: Visit, now: float) -> None:
        at_s = now - self.started_s
        if not self._seconds or self._seconds[-1][0] != int(at_s):
            self._seconds.append((int(at_s), Counter()))
        self._seconds[-1][1][lane] += 1
        reason = visit.headers.get("x-spillway-reason", "")
        self.choices.append(Choice(at_s, visit.headers.get("x-spillway-target", ""), lane, reason))
        if lane == SHARED:
            self._spilled(at_s, reason, now)
        elif self.spilling:
            self._dedicated_since_spill += 1
            if now - self._last_spill_s >= QUIET_S and self._dedicated_since_spill >= 2:
                self._came_back(at_s)

    def _spilled(self, at_s: float, reason: str, now: float) -> None:
        self._last_spill_s = now
        self._dedicated_since_spill = 0
        if not self.spilling:
            self.spilling = True
            event = Event(at_s, f"spilling begins: {reason}", True)
            self.events.append(event)
            self.began = self.began or event

    def _came_back(self, at_s: float) -> None:
        self.spilling = False
        event = Event(at_s, "traffic is back on the dedicated GPUs", False)
        self.events.append(event)
        self.returned = self.returned or event


def quantile(values: list[float], share: float) -> float | None:
    """The smallest value that is not below `share` of them, None of nothing."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)] if values else None


def _spill_share(lanes: Counter[str] | None) -> float | None:
    total = 0 if lanes is None else lanes.total()
    return None if lanes is None or not total else lanes[SHARED] / total
