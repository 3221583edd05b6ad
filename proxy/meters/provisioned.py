"""How many replicas each dedicated target has: as the policy says, or whoever it says to ask.

Theory of operation
-------------------
Names in the DNS and Services are asked every `EVERY_S`, each in a thread, since both ways block. What they answer holds
until they answer something else: while they do not, the last count does, and its age says how old it is. Before the
first answer there is no count, and nothing is metered by a guess.

That a name has no addresses may mean that nothing runs, or that a resolver lost its mind for a moment. It is believed
when it has been said `GONE_AFTER` times in a row, and only of a name that had addresses before: otherwise the name may
just be wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from proxy.cluster.asking import Asking
from proxy.cluster.names import NotResolved, lookup
from proxy.meters.kubernetes import Cluster, CountUnknown
from proxy.policy.gpus import DnsReplicas, ReplicaSource
from proxy.policy.model import Lane, Target

_log = logging.getLogger(__name__)

EVERY_S = 10.0
STALE_AFTER_S = 30.0
GONE_AFTER = 3
_ASKING = Asking("replicas")


class NoAddresses(CountUnknown):
    """The name resolves to nothing."""


def addresses(name: DnsReplicas) -> int:
    """How many addresses the name has; blocks as long as the resolver does. Raises CountUnknown."""
    try:
        found = lookup(name.host)
    except NotResolved as error:
        raise (NoAddresses if error.gone else CountUnknown)(str(error)) from None
    # A pod with addresses of two families is one pod.
    return max(len(found.ipv4), len(found.ipv6))


class _Count:
    """What is known from one source."""

    __slots__ = ("asking", "at", "gone", "replicas", "silent")

    def __init__(self) -> None:
        self.replicas: int | None = None
        self.at = 0.0
        self.gone = 0
        self.silent = False
        self.asking: asyncio.Future[int] | None = None


class Provisioned:
    """Keeps the counts up to date while it runs. `fleet` are the targets of the current policy."""

    def __init__(
        self,
        fleet: Callable[[], Iterable[Target]],
        *,
        resolve: Callable[[DnsReplicas], int] = addresses,
        cluster: Cluster | None = None,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._resolve = resolve
        self._cluster = cluster or Cluster()
        self._every_s = every_s
        self._clock = clock
        self._counts: dict[ReplicaSource, _Count] = {}
        self._task: asyncio.Task[None] | None = None

    def replicas(self, target: Target) -> int | None:
        """How many there are; None before anybody who knows has answered."""
        gpus = target.gpus
        counted = target.replicas if gpus is None else gpus.behind(target.replicas)
        source = _source(target)
        return counted if source is None else self._counts.get(source, _NOTHING).replicas

    def age_s(self, target: Target) -> float | None:
        """Seconds since the count was last confirmed: 0 where the policy says it, None before the first answer."""
        source = _source(target)
        if source is None:
            return 0.0
        count = self._counts.get(source, _NOTHING)
        return None if count.replicas is None else self._clock() - count.at

    def stale(self) -> tuple[str, ...]:
        """The dedicated targets whose count is unknown, or has not been confirmed for `STALE_AFTER_S`."""
        ages = ((target.name, self.age_s(target)) for target in self._fleet() if target.lane is Lane.DEDICATED)
        return tuple(name for name, age_s in ages if age_s is None or age_s > STALE_AFTER_S)

    def start(self) -> None:
        """Begin asking on the running event loop."""
        self._task = asyncio.create_task(self._run(), name="meters-provisioned")

    async def aclose(self) -> None:
        """Stop asking; an answer that is under way is not waited for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for count in self._counts.values():
            if count.asking is not None:
                count.asking.cancel()

    async def _run(self) -> None:
        while True:
            self._ask()
            await asyncio.sleep(self._every_s)

    def _ask(self) -> None:
        """Put the question to all whom the policy names; one that has not answered yet is not asked again."""
        loop = asyncio.get_running_loop()
        sources = {source for target in self._fleet() if (source := _source(target)) is not None}
        self._counts = {source: self._counts.get(source) or _Count() for source in sources}
        for source, count in self._counts.items():
            if count.asking is None:
                count.asking = loop.run_in_executor(_ASKING, self._answer, source)
                count.asking.add_done_callback(partial(self._answered, source))
            elif count.replicas is None or self._clock() - count.at > STALE_AFTER_S:
                self._unknown(source, count, "no answer yet")

    def _answer(self, source: ReplicaSource) -> int:
        return self._resolve(source) if isinstance(source, DnsReplicas) else self._cluster.replicas(source)

    def _answered(self, source: ReplicaSource, answer: asyncio.Future[int]) -> None:
        if answer.cancelled():
            return
        count, error = self._counts.get(source), answer.exception()
        if count is None:
            return  # the policy does not name it any more
        count.asking = None
        if error is None:
            self._known(source, count, answer.result())
        elif isinstance(error, NoAddresses) and count.replicas is not None:
            count.gone += 1
            if count.gone >= GONE_AFTER:
                self._known(source, count, 0)
        else:
            self._unknown(source, count, str(error))

    def _known(self, source: ReplicaSource, count: _Count, replicas: int) -> None:
        if replicas != count.replicas or count.silent:
            _log.info("%s: %d replicas", _spelled(source), replicas)
        count.replicas, count.at, count.silent = replicas, self._clock(), False
        count.gone = count.gone if replicas == 0 else 0

    def _unknown(self, source: ReplicaSource, count: _Count, reason: str) -> None:
        if not count.silent:
            held = "nothing is metered" if count.replicas is None else f"{count.replicas} as before"
            _log.warning("%s does not say how many replicas there are, %s: %s", _spelled(source), held, reason)
        count.silent = True


_NOTHING = _Count()


def _source(target: Target) -> ReplicaSource | None:
    replicas = None if target.gpus is None else target.gpus.replicas
    return None if replicas is None or isinstance(replicas, int) else replicas


def _spelled(source: ReplicaSource) -> str:
    if isinstance(source, DnsReplicas):
        return f"the DNS name `{source.host}`"
    return f"the Service `{source.service}` in `{source.namespace}`"
