"""A simulated vLLM: the step model in real time behind vLLM's HTTP surface. Every reply says that it is simulated.

Theory of operation
-------------------
One task takes the model's steps and sleeps until each would have ended, against the clock rather than for a duration,
so that lateness does not add up; then every open answer is told how many tokens it has. A request that the model calls
full is refused with vLLM's own 503; a client that leaves is cancelled in the model before the next step.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Self

from proxy.simulator.asks import Problem
from proxy.simulator.engine_metrics import EngineMetrics
from proxy.simulator.front import NATURAL_ANSWER_TOKENS, Answer, Front
from proxy.simulator.ledger import Ledger
from proxy.simulator.profile import Profile
from proxy.simulator.step_model import Admission, Step, StepModel

_BUSY = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)


class EngineSimulator(Front):
    """One simulated engine replica. `speed` is simulated seconds in a real one; 1 is real time.

    A step is never shorter than the event loop can sleep, so at a high `speed` several may end at once.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        model: str = "simulated-llama",
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        api_key: str | None = None,
        natural_tokens: int = NATURAL_ANSWER_TOKENS,
    ) -> None:
        super().__init__(
            "engine",
            model=model,
            host=host,
            port=port,
            api_key=api_key,
            natural_tokens=natural_tokens,
            ledger=Ledger(),
        )
        self.profile = profile
        self.steps = StepModel(profile)
        self._speed = speed
        self._answers: dict[int, Answer] = {}
        self._metrics = EngineMetrics(model, self.steps)
        self._work = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._stepping = asyncio.create_task(self._run(), name="engine simulator")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._stepping is not None:
            self._stepping.cancel()
            with suppress(asyncio.CancelledError):
                await self._stepping

    def page(self, path: str) -> tuple[str, bytes] | None:
        """`/health` and `/metrics`."""
        if path == "/health":
            return "text/plain", b""
        return self._metrics.page() if path == "/metrics" else None

    def answer(self, answer: Answer, serial: int) -> None:
        """Queue the request in the step model; an embedding is a prompt with one silent token."""
        match self.steps.submit(serial, answer.ask.input_tokens, max(1, answer.answer_tokens)):
            case Admission.FULL:
                self._metrics.rejected()
                answer.refuse(Problem(status=503, message=_BUSY, type=HTTPStatus(503).phrase))
            case Admission.TOO_LONG:
                answer.refuse(Problem(status=400, message=self._too_long(answer)))
            case Admission.ACCEPTED:
                answer.accept()
                answer.on_leave = lambda: self._cancel(serial)
                self._answers[serial] = answer
                self._work.set()

    def _too_long(self, answer: Answer) -> str:
        wanted = answer.ask.input_tokens + answer.answer_tokens
        return f"This model's maximum context length is {self.profile.kv_tokens} tokens. You requested {wanted} tokens."

    def _cancel(self, serial: int) -> None:
        self.steps.cancel(serial)
        del self._answers[serial]
        self._metrics.aborted()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        clock = loop.time()
        while True:
            step = self.steps.step()
            if step is None:
                self._work.clear()
                await self._work.wait()
                clock = loop.time()
                continue
            clock += step.duration_s / self._speed
            await asyncio.sleep(max(0.0, clock - loop.time()))
            self._deliver(step)

    def _deliver(self, step: Step) -> None:
        for serial in step.finished:
            answer = self._answers.pop(serial, None)
            if answer is None:
                continue  # its client left during the step
            answer.speak(answer.answer_tokens)
            answer.finish()
            self._metrics.finished(answer.entry, answer.cut)
        for serial, answer in self._answers.items():
            answer.speak(self.steps.emitted(serial))
        self._metrics.stepped(step)
