"""Follows the policy on the disk: what has settled there is compiled in a thread, and served if nothing is wrong.

Theory of operation
-------------------
One thread looks (`policy/watch.py`), compiles and prepares, one text after the other, so that there are never two
compiles at once and the event loop does nothing but swap references. What came of it is handed to the loop, where a
`Follower` acts on it. All or nothing: a text with a single problem changes nothing but what is said about it, and the
policy that is being served goes on. Each text that was refused is told of once, not each time it is looked at.

The thread shares the interpreter with the loop. Its turns are as short as `SWITCH_S` says, a tenth of Python's own,
or a request that arrives while a large policy compiles would wait 5 ms each time it gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Signs, Source, read_signs, read_source
from proxy.policy.watch import Unfit, Watch

_log = logging.getLogger(__name__)

LOOK_S = 0.05
"""How long between two looks: a policy that is replaced ten times a second is still seen twice each time."""
SWITCH_S = 0.0005

Prepared = TypeVar("Prepared")
Prepared_contra = TypeVar("Prepared_contra", contravariant=True)


class Follower(Protocol[Prepared_contra]):
    """Who serves the policy. Called on the event loop, in the order of what happened on the disk."""

    def adopt(self, prepared: Prepared_contra) -> None: ...

    def refuse(self, refused: Unfit) -> None: ...

    def restore(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ready(Generic[Prepared]):
    """A new policy, ready to serve."""

    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Restored:
    """After a text that was refused, the disk says again what is being served."""


News = Ready[Prepared] | Unfit | Restored


class Folder:
    """The policy's file, or folder, on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def signs(self) -> Signs:
        return read_signs(self._path)

    def read(self) -> Source:
        return read_source(self._path)


class Reload(Generic[Prepared]):
    """The thread. `prepare` compiles a text and makes it ready; it raises `PolicyError` when that cannot be."""

    def __init__(
        self,
        watch: Watch,
        prepare: Callable[[Source], Prepared],
        follower: Follower[Prepared],
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._prepare = prepare
        self._follower = follower
        self._look_s = look_s
        self._clock = clock
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin on the running event loop."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="policy-watch", daemon=True).start()

    def stop(self) -> None:
        """Nothing more reaches the follower. A compile in progress ends by itself, unheard."""
        self._stopping.set()

    def step(self) -> News[Prepared] | None:
        """Look once, and compile what has settled."""
        seen = self._watch.look(self._clock())
        if seen is None:
            return None
        return seen if isinstance(seen, Unfit) else self._compiled(seen)

    def _compiled(self, source: Source) -> News[Prepared]:
        if source.digest == self._watch.served.digest:
            return Restored()
        revision = source.digest[:12]
        try:
            prepared = self._prepare(source)
        except PolicyError as error:
            return Unfit(error.problems, revision)
        except Exception as error:  # noqa: BLE001  (a text that the compiler chokes on is refused like any other)
            _log.exception("policy %s could not be compiled", revision)
            return Unfit((Problem(source.path, 0, 0, f"could not be compiled: {type(error).__name__}"),), revision)
        self._watch.served = source
        return Ready(prepared)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.wait(self._look_s):
            news = self.step()
            if news is not None:
                with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                    loop.call_soon_threadsafe(self._tell, news)
            # What was adopted belongs to the follower: kept here, it would outlive its being served.
            del news

    def _tell(self, news: News[Prepared]) -> None:
        if self._stopping.is_set():
            return
        match news:
            case Ready(prepared):
                self._follower.adopt(prepared)
            case Unfit():
                self._follower.refuse(news)
            case Restored():
                self._follower.restore()
