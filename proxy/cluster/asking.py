"""Questions that block until somebody answers, a resolver above all, and that nobody waits for at the end.

Nothing interrupts `getaddrinfo`, which takes most of a minute where no resolver answers. Before it ends, the
interpreter waits for the threads of a `ThreadPoolExecutor`, whatever that was told: a proxy that has nothing left to do
would linger until it is killed. So each question has a thread of its own, which ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Asking(Executor):
    """For `run_in_executor`. It has no bound: whoever asks puts no question twice while it is not answered."""

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Put a question now."""
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()

        def ask() -> None:
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  whatever went wrong belongs to whoever asked
                answer.set_exception(error)

        threading.Thread(target=ask, name=self._name, daemon=True).start()
        return answer
