"""Decides when a text on the disk is a new policy, whole and meant: not half of one that is still being written.

Theory of operation
-------------------
Nobody tells us that a policy has changed: a ConfigMap mount swaps a symbolic link, `mv` and many editors put another
file in the place, others truncate the file and write it anew. All of them are seen by looking, many times a second. A
look asks the file system for identity, size and times, which costs microseconds; only when those have changed are the
texts read, and only the texts count. Looking is what inotify would have to be backed up by anyway: it is silent on
network mounts, and follows the inode rather than the name.

A text is believed when two looks in a row read the same, and when nothing changed during the second. That settles link
swaps and renames, which are whole from the first moment, within a tenth of a second. Other writers leave a half-written
text in view, and the dangerous ones are those that stop at the end of a line: a policy cut before `routes:` is a valid
policy without a single gate, one cut before `tenants:` lets everybody in. The reader cannot tell such a text from a
policy, but it can see three things, and waits for calm when it sees one:

- the same file (inode) has changed: it is being written in place, and a writer may pause (`WRITTEN_CALM_S`);
- a file does not end with a line, or cannot be read, or is gone (`CUT_CALM_S`);
- a whole section of the policy that is being served is missing (`CUT_CALM_S`).

Two such texts are not adopted however calm they are, for a disk that filled up leaves just that behind, and who means
it can say so by adding a line: one that is the beginning of the text being served, less more than comments; and one
that ends within a line and lacks a section.

File times are coarse, so two changes within one tick of the clock may leave the same times behind: the second look at a
new text therefore always reads it, and every text is read again from time to time whatever the file system says.

Nothing here waits, and the clock and the disk are arguments: `look` is called again and again by somebody who has both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import Signs, Source, SourceFile

WRITTEN_CALM_S = 0.5
CUT_CALM_S = 2.0
REREAD_S = 5.0

_SECTION = re.compile(r"^[\"']?(\w+)[\"']?\s*:", re.MULTILINE)


class Disk(Protocol):
    """Where the policy's texts are. `read` raises `PolicyError`."""

    def signs(self) -> Signs: ...

    def read(self) -> Source: ...


@dataclass(frozen=True, slots=True)
class Unfit:
    """What is on the disk, and settled there, cannot be a policy. `revision` is empty when it could not be read."""

    problems: tuple[Problem, ...]
    revision: str = ""


Seen = Source | Unfit
"""What one look found."""

_CHANGING = Unfit(())
"""The texts changed while they were read: nothing is known of them but that somebody writes."""


@dataclass(slots=True)
class _Candidate:
    """Something new, untouched since `since_s`; `in_place` when a file was seen to change under its own inode."""

    seen: Seen
    since_s: float
    in_place: bool
    unfinished: bool
    looks: int = 1

    def is_calm(self, now: float) -> bool:
        calm_s = CUT_CALM_S if self.unfinished else WRITTEN_CALM_S if self.in_place else 0.0
        return self.looks > 1 and now - self.since_s >= calm_s


class Watch:
    """The state between looks. Whoever adopts what `look` returns says so by setting `served`."""

    def __init__(self, served: Source, disk: Disk) -> None:
        self.served = served
        self._disk = disk
        self._signs: Signs | None = None
        self._candidate: _Candidate | None = None
        self._settled: Seen = served
        self._reread_at_s = 0.0

    def look(self, now: float) -> Seen | None:
        """Look once, at `now` in seconds on any clock. What has newly settled on the disk is returned, once."""
        signs = self._disk.signs()
        if signs == self._signs and self._candidate is None and now < self._reread_at_s:
            return None
        seen = self._read()
        before, self._signs = self._signs, signs
        self._reread_at_s = now + REREAD_S
        if self._disk.signs() != signs:
            seen = _CHANGING
        self._note(seen, before or signs, now)
        candidate = self._candidate
        if candidate is None or seen is _CHANGING or not candidate.is_calm(now):
            return None
        self._candidate, self._settled = None, seen
        return _judged(seen, self.served)

    def _note(self, seen: Seen, before: Signs, now: float) -> None:
        """Keep the candidate if it is what was seen before, else begin anew."""
        assert self._signs is not None
        in_place = _written_in_place(before, self._signs)
        candidate = self._candidate
        if candidate is not None and candidate.seen == seen:
            candidate.looks += 1
            if in_place:
                candidate.in_place, candidate.since_s = True, now
        elif seen == self._settled:
            self._candidate = None
        else:
            still = candidate is not None and candidate.in_place and not _replaced(before, self._signs)
            self._candidate = _Candidate(seen, now, in_place or still, _looks_unfinished(seen, self.served))

    def _read(self) -> Seen:
        try:
            return self._disk.read()
        except PolicyError as error:
            return Unfit(error.problems)


def _judged(seen: Seen, served: Source) -> Seen:
    """The text itself, unless it was cut."""
    if isinstance(seen, Unfit):
        return seen
    problems = _beginnings(seen, served) or _endings(seen, served)
    return Unfit(problems, seen.digest[:12]) if problems else seen


def _written_in_place(before: Signs, after: Signs) -> bool:
    """Whether a file's content changed while it stayed the same file."""
    known = {sign.path: sign for sign in before}
    pairs = ((known.get(sign.path), sign) for sign in after)
    return any(old is not None and old.identity == new.identity and old.state != new.state for old, new in pairs)


def _replaced(before: Signs, after: Signs) -> bool:
    """Whether another file, or none, now stands where one was."""
    return {(sign.path, sign.identity) for sign in before} != {(sign.path, sign.identity) for sign in after}


def _looks_unfinished(seen: Seen, served: Source) -> bool:
    if isinstance(seen, Unfit):
        return True
    return bool(_open_ended(seen) or _missing(seen, served) or _beginnings(seen, served))


def _open_ended(source: Source) -> list[SourceFile]:
    """The files that do not end with a line."""
    return [file for file in source.files if not file.text.endswith("\n")]


def _missing(seen: Source, served: Source) -> list[str]:
    """The sections of the policy being served that there are no more."""
    return sorted(_sections(served) - _sections(seen))


def _sections(source: Source) -> set[str]:
    """The keys that stand at the beginning of a line."""
    return {name for file in source.files for name in _SECTION.findall(file.text)}


def _beginnings(seen: Source, served: Source) -> tuple[Problem, ...]:
    """What is wrong with files that end where the policy being served goes on."""
    texts = {file.path: file.text for file in served.files}
    message = "the file ends where the policy that is being served goes on"
    hint = "if the end was removed on purpose, say so by adding a line, a comment for example"
    cut = [file for file in seen.files if _is_beginning(file.text, texts.get(file.path, ""))]
    return tuple(_at_the_end(file, message, hint) for file in cut)


def _endings(seen: Source, served: Source) -> tuple[Problem, ...]:
    """What is wrong with files that end within a line while a section is missing."""
    missing = ", ".join(f"`{name}`" for name in _missing(seen, served))
    if not missing:
        return ()
    message = f"the file ends within a line, without {missing} of the policy that is being served"
    hint = "if that is all of it, end it with a newline"
    return tuple(_at_the_end(file, message, hint) for file in _open_ended(seen))


def _at_the_end(file: SourceFile, message: str, hint: str) -> Problem:
    start = file.text.rfind("\n") + 1
    return Problem(file.path, file.text.count("\n") + 1, len(file.text) - start + 1, message, hint)


def _is_beginning(text: str, of: str) -> bool:
    """Whether `text` is what `of` begins with, and the rest says something."""
    if not of.startswith(text) or of == text:
        return False
    rest = of[len(text) :]
    if text and not text.endswith("\n") and not rest[0].isspace():
        return True
    return any(line.strip() and not line.lstrip().startswith("#") for line in rest.splitlines())
