"""Collects what is wrong with one policy while it is being compiled."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.policy.checks import Check
from proxy.policy.document import Document, Loc, Place
from proxy.policy.problem import Mistake, Problem
from proxy.policy.variables import hidden
from proxy.policy.words import did_you_mean


class Findings:
    """Problems and warnings, placed by loc. A loc that already has a problem gets no second one.

    What came out of the environment is hidden in all of them: a variable in the wrong place may hold a key.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._broken = set(document.broken)
        self._problems: list[Problem] = list(document.problems)
        self._warnings: list[Problem] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What must be mended, in the order of the files."""
        return tuple(sorted(set(self._problems)))

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What may be served, but deserves a look."""
        return tuple(sorted(set(self._warnings)))

    def problem(
        self, loc: Loc, message: str, hint: str = "", *, key: bool = False, check: Check = Check.INVALID_VALUE
    ) -> None:
        """Note a problem with the value at `loc`, or with its key."""
        if not self.has_one_at(loc):
            self._problems.append(self._placed(loc, message, hint, check, key=key))

    def mistake(self, loc: Loc, mistake: Mistake, *, key: bool = False) -> None:
        """Note a value (or key) at `loc` that could not be read."""
        self.problem(loc, mistake.message, mistake.hint, key=key, check=mistake.check)

    def unknown(self, loc: Loc, kind: str, name: str, known: Iterable[str]) -> None:
        """Note that no `kind` (target, model, tenant) is called `name`, unless their section could not be read."""
        section = f"{kind}s"
        if not self.has_one_at((section,)):
            hint = did_you_mean(name, known) or f"name one under `{section}`"
            self.problem(loc, f"unknown {kind} `{name}`", hint, check=Check.UNKNOWN_NAME)

    def warning(self, check: Check, loc: Loc, message: str, hint: str = "", *, key: bool = True) -> None:
        """Note something lawful that the author may not have meant, with the key at `loc` or its value."""
        self._warnings.append(self._placed(loc, message, hint, check, key=key))

    def note(self, problem: Problem) -> None:
        """Note a warning that has its place already."""
        self._warnings.append(problem)

    def place(self, loc: Loc) -> Place:
        """Where the value at `loc` stands."""
        return self._document.place(loc)

    def drop(self, loc: Loc) -> None:
        """Take what stands at `loc` out of the game: it is broken, and nothing more is to be said about it."""
        self._broken.add(loc)

    def has_one_at(self, loc: Loc) -> bool:
        """Whether something was said already about `loc`, or about anything around it."""
        return any(loc[:end] in self._broken for end in range(len(loc) + 1))

    def has_dropped(self, *sections: str) -> bool:
        """Whether any item of these sections is broken."""
        return any(loc and loc[0] in sections for loc in self._broken)

    def _placed(self, loc: Loc, message: str, hint: str, check: Check, *, key: bool) -> Problem:
        variables = self._document.variables
        place = self._document.place(loc, key=key)
        return Problem(*place, hidden(message, variables), hidden(hint, variables), check)
