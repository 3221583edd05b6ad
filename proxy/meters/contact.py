"""How long the store has not answered this process, and what that means for what it has leased.

Theory of operation
-------------------
The store sees who of the processes has heard it lately: each of them tells which answer it got last. One that has not
proven that for a second may soon be on its own, so the store no longer refills the buckets on its behalf. A second and
a half after an answer has come the process does that itself, at its *share* of every limit: the shares of all processes
together never exceed one. So no bucket is refilled twice for the same time, however long questions and answers take.

A process may hold more than its share of a bucket, and others that are on their own fill theirs meanwhile. Then what it
holds beyond its share leaks, as fast as all others together can refill: while the store says that somebody is away,
or has itself been silent for `LEAK_AFTER_S`, which is before anybody has begun to refill.
"""

from __future__ import annotations

WHOLE = 1_000_000
"""Shares are in millionths."""
LEAK_AFTER_S = 0.45
ALONE_AFTER_S = 1.5


class Contact:
    """One process's; times are seconds on the monotonic clock. Until the first answer, `share` is that of one among
    `expected_members`.
    """

    __slots__ = ("_heard_at", "_leak_from", "_leaked_s", "calm_until", "echo", "era", "members", "outage", "share")

    def __init__(self, expected_members: int, now: float) -> None:
        self.share = WHOLE // expected_members
        self.members = 0
        """How many share the limits, as last heard; 0 before the first answer."""
        self.era = ""
        """Which memory answers: another one after a wipe, a restart, a failover."""
        self.echo = 0
        """The number of the last question that was answered."""
        self.outage = 0
        """Changes with every answer: what was refilled in one silence is no business of the next."""
        self.calm_until = now
        """Up to then nothing leaks, and nothing is refilled here."""
        self._heard_at = self._leak_from = now
        self._leaked_s = 0.0

    def answered(self, number: int, share: int, members: int, *, away: bool, sent_at: float, now: float) -> None:
        """The store has answered question `number`; `away` says that somebody else may be on its own."""
        self._leaked_s = self.leaked_s(now)
        self._leak_from = now if away else max(now, sent_at + LEAK_AFTER_S)
        self._heard_at = now
        self.calm_until = min(self._leak_from, now + ALONE_AFTER_S)
        self.share, self.members, self.echo = share, members, number
        self.outage += 1

    def learned(self, share: int) -> None:
        """The store has lost its memory, and says no more than what may be taken for a share meanwhile."""
        self.share = share

    def leaked_s(self, now: float) -> float:
        """For how long, in all, holdings beyond the share have leaked."""
        return self._leaked_s + max(0.0, now - self._leak_from)

    def alone_s(self, now: float) -> float:
        """For how long this process has refilled its buckets itself; 0 while it does not."""
        return max(0.0, now - self._heard_at - ALONE_AFTER_S)
