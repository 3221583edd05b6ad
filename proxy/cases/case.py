"""Policy tests as their authors write them: `cases` in YAML beside the policy, each with its place.

Theory of operation
-------------------
A file of cases is read by the policy's own modules, so mistakes in it are told alike: all of them, each with its place
and what to write instead. A case is judged only if all of its file is sound. `defaults` stand for whatever a case's
`given` leaves out.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from proxy.cases.expect import Difference, Expected, differences, read_expected
from proxy.cases.given import Given, given_of
from proxy.cases.request import Request, misfits
from proxy.policy import words
from proxy.policy.document import Document, Loc, Place, read_document
from proxy.policy.findings import Findings
from proxy.policy.model import Snapshot
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.shape import BROKEN, key, one, shaped
from proxy.policy.source import TEST_SUFFIXES, SourceFile, read_source
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean
from proxy.routing.decide import Router
from proxy.routing.plan import Decision

SECTIONS = ("defaults", "cases")
NO_CASES = "write `cases:` and one `- name: ...` for each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: what is given, and what is expected of the router. `index` is its place in the file, from 0."""

    name: str
    place: Place
    index: int
    given: Given
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the router said to a case, and what of that was not expected."""

    case: Case
    decision: Decision
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether all that was stated is so."""
        return not self.differences


def _as_written(value: object, loc: Loc, findings: Findings) -> object:
    """For what is read later, when it is known what it is about."""
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """The keys of one case, each as it is written."""

    name: str = key(one(words.text), hint="write `name:` and what the case shows, in a sentence")
    given: Any = key(_as_written, default=None)
    readings: Any = key(_as_written, default=None)
    rates: Any = key(_as_written, default=None)
    budgets: Any = key(_as_written, default=None)
    expect: Any = key(_as_written, hint="write `expect: {}`; `--update` fills it in")


_WRITTEN = shaped(_Written)
_REQUEST = shaped(Request)


def files_of(policy: Path) -> tuple[Path, ...]:
    """The files of cases that belong to a policy: `NAME.test.yaml` beside the file, all of them in a folder."""
    if policy.is_dir():
        return tuple(sorted(one for one in policy.iterdir() if one.name.endswith(TEST_SUFFIXES)))
    beside = (policy.with_name(f"{policy.stem}{suffix}") for suffix in TEST_SUFFIXES)
    return tuple(one for one in beside if one.is_file())


def read_file(path: Path) -> SourceFile:
    """The text of one file of cases; raises `PolicyError` when it cannot be read."""
    return read_source(path).files[0]


def read_cases(file: SourceFile, snapshot: Snapshot, *, may_be_empty: bool = False) -> tuple[Case, ...]:
    """The cases in `file`, about the policy of `snapshot`; raises `PolicyError` with every mistake.

    `may_be_empty` lets an `expect` state nothing yet.
    """
    document = read_document((file,), {})
    findings = Findings(document)
    cases: tuple[Case, ...] = ()
    if () not in document.broken:
        cases = _Reader(document, snapshot, findings, may_be_empty=may_be_empty).cases()
    if findings.problems:
        raise PolicyError(tuple(_about_cases(problem) for problem in findings.problems))
    return cases


def judge(case: Case, router: Router) -> Result:
    """Put the case to the router."""
    given = case.given
    decision = router.decide(given.facts, given.readings, given.now, given.draw, given.rates, given.funds)
    return Result(case=case, decision=decision, differences=differences(case.expected, decision))


class _Reader:
    """Reads one file of cases."""

    def __init__(self, document: Document, snapshot: Snapshot, findings: Findings, *, may_be_empty: bool) -> None:
        self._document = document
        self._snapshot = snapshot
        self._findings = findings
        self._may_be_empty = may_be_empty

    def cases(self) -> tuple[Case, ...]:
        """Every case that is sound; what is not is noted."""
        root, findings = self._document.root, self._findings
        for name in sorted(root.keys() - set(SECTIONS)):
            hint = did_you_mean(name, SECTIONS)
            findings.problem((name,), f"unknown key {shown(name)} in a file of cases", hint, key=True)
        defaults = _REQUEST(root.get("defaults", {}), ("defaults",), findings)
        listed = root.get("cases")
        if not isinstance(listed, list) or not listed:
            findings.problem(("cases",), "no `cases`", NO_CASES, key=True)
            return ()
        read = [self._case(index, item, defaults) for index, item in enumerate(listed)]
        self._check_names(read)
        return tuple(case for case in read if case is not None)

    def _case(self, index: int, item: object, defaults: Request | Any) -> Case | None:
        loc: Loc = ("cases", index)
        written = _WRITTEN(item, loc, self._findings)
        if written is BROKEN:
            return None
        asked = _REQUEST(_or_nothing(written.given), (*loc, "given"), self._findings)
        expected = read_expected(written.expect, self._snapshot, (*loc, "expect"), self._findings)
        if expected == {} and not self._may_be_empty:
            hint = "state at least one key, or let `--update` fill it in"
            self._findings.problem((*loc, "expect"), "`expect` expects nothing", hint)
        if BROKEN in (asked, defaults) or expected is None:
            return None
        request = _united(asked, defaults)
        fits = True
        for name, mistake in misfits(request, self._snapshot):
            at = (*loc, "given", name) if getattr(asked, name) is not None else ("defaults", name)
            is_stated = at in self._document.values
            self._findings.mistake(at if is_stated else loc, mistake)
            fits = False
        if not fits:
            return None
        given = given_of(
            request,
            _or_nothing(written.readings),
            _or_nothing(written.rates),
            _or_nothing(written.budgets),
            self._snapshot,
            self._findings,
            loc,
        )
        place = self._document.place(loc)
        return Case(name=written.name, place=place, index=index, given=given, expected=expected)

    def _check_names(self, cases: list[Case | None]) -> None:
        seen: dict[str, int] = {}
        for case in cases:
            if case is None:
                continue
            first = seen.setdefault(case.name, case.place.line)
            if first != case.place.line:
                hint = f"rename one; the first is on line {first}"
                self._findings.problem(("cases", case.index, "name"), f"a second case named `{case.name}`", hint)


def _or_nothing(written: Any) -> Any:
    return {} if written is None else written


def _united(asked: Request, defaults: Request) -> Request:
    """`asked`, and for what it does not say `defaults`; whoever names a key or a tenant means that caller alone."""
    if asked.key is not None or asked.tenant is not None:
        defaults = replace(defaults, key=None, tenant=None)
    told = {one.name: getattr(asked, one.name) for one in fields(asked)}
    return replace(defaults, **{name: value for name, value in told.items() if value is not None})


def _about_cases(problem: Problem) -> Problem:
    """What the reader of policies says of a file that has no keys, in the terms of this kind of file."""
    if not problem.hint.startswith("begin with `version: 1`"):
        return problem
    return replace(problem, message="no `cases`", hint=NO_CASES)
