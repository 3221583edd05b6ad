"""Which policy is served, since when, and why newer text on the disk is not: what metrics, health and status show.

Theory of operation
-------------------
One frozen value, replaced as a whole: whoever shows it sees a revision and a generation that belong together. A text
that was refused is remembered until another one is adopted or the file says again what is being served.
"""

from __future__ import annotations

import msgspec

SHOWN_PROBLEMS = 20


class ReloadFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A text that was not adopted. `at` is Unix time; `revision` is empty when it could not even be read.

    `problems` are written `file:line:column: message`, the first twenty of them; none holds a secret.
    """

    revision: str
    at: float
    problems: tuple[str, ...]
    problem_count: int


class PolicyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What this process serves by. `generation` counts adopted policies from 1; `loaded_at` is Unix time."""

    revision: str
    loaded_at: float
    generation: int = 1
    reload_failures: int = 0
    error: ReloadFailure | None = None

    def adopted(self, revision: str, at: float) -> PolicyStatus:
        """The next generation is served."""
        return PolicyStatus(
            revision=revision, loaded_at=at, generation=self.generation + 1, reload_failures=self.reload_failures
        )

    def refused(self, revision: str, at: float, problems: tuple[str, ...]) -> PolicyStatus:
        """Another text was found and not adopted."""
        failure = ReloadFailure(
            revision=revision, at=at, problems=problems[:SHOWN_PROBLEMS], problem_count=len(problems)
        )
        return msgspec.structs.replace(self, reload_failures=self.reload_failures + 1, error=failure)

    def restored(self) -> PolicyStatus:
        """The text on the disk is again the one being served."""
        return msgspec.structs.replace(self, error=None)
