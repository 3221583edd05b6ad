"""What is wrong with a policy, in words a platform engineer can act on.

Theory of operation
-------------------
A mistake in a policy is a value, not an exception: `Problem` says where, what and how to mend it, and all problems of a
policy are collected before anything is said. Exceptions appear at two edges only::

    ValueError
    └── Mistake       one value could not be read; raised by a parser that does not know where the value stands
    Exception
    └── PolicyError   the policy as a whole is refused; carries every `Problem`
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy.checks import Check, Severity


def printable(text: str) -> str:
    """`text` with a replacement character for each that does not print."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One finding. `line` and `column` count from 1; `line` is 0 when it is about the file as a whole.

    Its words go to terminals and logs: control characters, which a policy may hold, are replaced.
    """

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    check: Check = Check.INVALID_VALUE

    def __post_init__(self) -> None:
        for name in ("message", "hint"):
            words: str = getattr(self, name)
            if not words.isprintable():
                object.__setattr__(self, name, printable(words))

    @property
    def severity(self) -> Severity:
        """How much it weighs."""
        return self.check.severity

    @property
    def where(self) -> str:
        """The place in the form that editors and terminals make clickable: `file:line:column`."""
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    def __str__(self) -> str:
        remedy = f" (hint: {self.hint})" if self.hint else ""
        return f"{self.where}: {self.message}{remedy}"


class PolicyError(Exception):
    """A policy that must not be served, with all its problems in the order of the files."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Mistake(ValueError):
    """A value that cannot be read: `message` says why, `hint` what to write instead. Neither holds a secret."""

    def __init__(self, message: str, hint: str = "", check: Check = Check.INVALID_VALUE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.check = check
