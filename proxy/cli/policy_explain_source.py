"""Where `policy explain` gets its answer: a policy on the disk, or a running proxy; asked about any request or a logged
one."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proxy.cases.funds import EXHAUSTED, read_funds
from proxy.cases.given import Given, read_given
from proxy.cases.observed import read_rates, read_readings
from proxy.cases.request import Request, key_of
from proxy.cli.admin_port import AdminPortError, SaidNo, ask
from proxy.cli.log_lines import log_lines
from proxy.cli.policy_assumed import compiled, listing
from proxy.cli.policy_explain_log import budgets_words, lines_of, rates_words, readings_words, request_words
from proxy.meters.prices import PriceListUnreadable
from proxy.policy.document import Document, read_document
from proxy.policy.findings import Findings
from proxy.policy.model import Snapshot
from proxy.policy.problem import Mistake, PolicyError
from proxy.policy.source import read_source
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation
from proxy.routing.readings import Funds, Rates, Readings
from proxy.telemetry.log import Line

SECTIONS = frozenset({"readings", "rates", "budgets"})

Words = Mapping[str, object]


class Unanswerable(Exception):
    """There is nothing to explain; the text says why, and what to do."""


class Answer(Explanation, frozen=True, kw_only=True):
    """What a proxy answers; `worker` is the number of the process, where there are several."""

    worker: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An explanation and where it comes from. `recorded` is what the log says of the request; `informed` whether
    anything is known of the state of the targets."""

    explanation: Explanation
    policy: str
    informed: bool
    recorded: Line | None = None

    @property
    def refused(self) -> bool:
        """Whether the request would be refused, or was."""
        if self.recorded is not None:
            return self.recorded.refusal is not None
        return self.explanation.refusal is not None

    @property
    def agrees(self) -> bool:
        """Whether the explanation comes to what the log has."""
        was, now = self.recorded, self.explanation
        if was is None:
            return True
        planned = [one.target for one in now.targets if one.places]
        route = now.route.name if now.route is not None else ""
        if was.plan is None or not planned:
            refused = was.refusal.code if was.refusal and was.plan is None else None
            return (route, refused) == (was.route, now.refusal.code if now.refusal else None)
        # Another model has a route of its own, and that is the one that was logged.
        return planned[0] == was.plan[0] and (now.served_as is not None or route == was.route)

    def to_json(self) -> str:
        """The explanation as `POST /admin/explain` gives it; with what was recorded beside it, if that was asked."""
        content: object = self.explanation
        if self.recorded is not None:
            content = {"recorded": self.recorded, "agrees": self.agrees, "explanation": self.explanation}
        return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def find(
    path: Path | None,
    live: str | None,
    asked: Words,
    readings: Path | None,
    request_id: str | None,
    log: str,
    exhausted: Sequence[str] = (),
) -> Found:
    """The explanation that was asked for, with some budgets taken to be exhausted. Raises Unanswerable."""
    recorded = None
    if request_id is not None:
        if asked:
            raise Unanswerable(f"`--request` says what was asked (hint: leave out `--{next(iter(asked))}`)")
        recorded = _recorded(request_id, log)
        asked = request_words(recorded)
    try:
        made_up = Document() if readings is None else _document(readings)
        if live is not None:
            return _from_proxy(live, path, asked, made_up, recorded, exhausted)
        if path is None:
            raise Unanswerable("which policy? (hint: name its file, or a running proxy with `--live http://host:9090`)")
        return _from_policy(path, asked, made_up, recorded, exhausted)
    except PolicyError as error:
        raise Unanswerable(listing(error.problems)) from None
    except PriceListUnreadable as error:
        raise Unanswerable(str(error)) from None
    except Mistake as mistake:
        hint = f" (hint: {mistake.hint})" if mistake.hint else ""
        raise Unanswerable(f"{_outcome(recorded)}{mistake.message}{hint}") from None


def _outcome(recorded: Line | None) -> str:
    """What became of a logged request that makes no sense under the policy."""
    if recorded is None:
        return ""
    told = recorded.refusal
    ended = "was served" if told is None else f"was refused with {told.status} `{told.code}`"
    return f"request `{recorded.request_id}` {ended}; "


def _from_policy(path: Path, asked: Words, made_up: Document, recorded: Line | None, exhausted: Sequence[str]) -> Found:
    if not path.exists():
        raise Unanswerable(f"no such file or folder: `{path}`")
    snapshot = compiled(path)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = _given(snapshot, {"at": now, **asked}, recorded, exhausted)
    readings, rates, funds = _made_up(made_up, snapshot, given.facts.at_s)
    readings, rates = {**given.readings, **readings}, {**given.rates, **rates}
    funds = {**funds, **given.funds}
    found = explain(Router(snapshot), given.facts, readings, given.now, given.draw, rates, funds)
    return Found(explanation=found, policy=str(path), informed=bool(readings or rates), recorded=recorded)


def _given(snapshot: Snapshot, asked: Words, recorded: Line | None, exhausted: Sequence[str]) -> Given:
    """The question, with the readings that the log tells of."""
    budgets = dict.fromkeys(exhausted, EXHAUSTED)
    if recorded is None:
        return read_given(snapshot, asked, budgets=budgets)
    readings, rates = readings_words(recorded, snapshot.targets), rates_words(recorded)
    known = {budget.name for budget in snapshot.budgets}
    budgets = {name: word for name, word in budgets_words(recorded).items() if name in known} | budgets
    return read_given(snapshot, {**asked, "tags": _still_allowed(snapshot, recorded)}, readings, rates, budgets)


def _still_allowed(snapshot: Snapshot, recorded: Line) -> list[str]:
    """The tags of a logged request without those that its tenant or key had then, and has no more."""
    tenant = recorded.tenant if snapshot.tenants else None
    caller = key_of(Request(tenant=tenant, key=recorded.key or None), snapshot)
    own = None if caller is None else caller.tenant.request_tags
    return [tag for tag in recorded.tags if own is None or caller is None or tag in own | caller.tags]


def _document(path: Path) -> Document:
    """Made-up readings. Raises PolicyError."""
    document = read_document(read_source(path).files, {})
    if document.problems:
        raise PolicyError(tuple(document.problems))
    return document


def _sections(document: Document) -> Mapping[str, object]:
    """`readings`, `rates` and `budgets`; a file without these words is all readings."""
    return document.root if SECTIONS & document.root.keys() else {"readings": document.root}


def _made_up(document: Document, snapshot: Snapshot, at_s: float) -> tuple[Readings, Rates, Funds]:
    findings = Findings(document)
    if not document.root:
        return {}, {}, {}
    sections, within = _sections(document), ("readings",) if SECTIONS & document.root.keys() else ()
    for name in sections.keys() - SECTIONS:
        findings.problem((name,), f"unknown section `{name}`", "write `readings:`, `rates:` and `budgets:`", key=True)
    readings = read_readings(sections.get("readings", {}), snapshot, within, findings)
    rates = read_rates(sections.get("rates", {}), snapshot, ("rates",), findings)
    funds = read_funds(sections.get("budgets", {}), snapshot, at_s, ("budgets",), findings)
    if findings.problems:
        raise PolicyError(findings.problems)
    return readings, rates, funds


def _recorded(request_id: str, log: str) -> Line:
    if log == "-" and sys.stdin.isatty():
        raise Unanswerable("which log? (hint: `--log FILE`, or pipe its lines into this command)")
    try:
        found = lines_of(sys.stdin.buffer if log == "-" else log_lines(Path(log)), request_id)
    except OSError as error:
        raise Unanswerable(f"cannot read the log `{log}`: {error.strerror}") from None
    if not found:
        raise Unanswerable(
            f"no request `{request_id}` in the log (hint: `--log FILE` names a file with the log's lines)"
        )
    line = found[-1]
    if not line.model:
        why = f"{line.refusal.status} `{line.refusal.code}`" if line.refusal is not None else "no answer"
        raise Unanswerable(f"request `{request_id}` never reached the policy: its client got {why}")
    return line


def _from_proxy(
    live: str, path: Path | None, asked: Words, made_up: Document, recorded: Line | None, exhausted: Sequence[str]
) -> Found:
    sections = dict(_sections(made_up))
    if exhausted:
        budgets = sections.get("budgets")
        sections["budgets"] = {
            **(budgets if isinstance(budgets, Mapping) else {}),
            **dict.fromkeys(exhausted, EXHAUSTED),
        }
    body = msgspec.json.encode({"request": asked, **sections})
    try:
        with ask(live, "/admin/explain", body) as response:
            answer = msgspec.json.decode(response.read(), type=Answer)
    except msgspec.MsgspecError:
        raise Unanswerable(f"`{live}` does not answer like a Spillway of this release") from None
    except SaidNo as error:
        raise Unanswerable(error.said or str(error)) from None
    except AdminPortError as error:
        raise Unanswerable(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unanswerable(f"`{live}` answered, and not to the end: {error}") from None
    worker = "" if answer.worker is None else f", worker {answer.worker}"
    served = f"what the proxy at {live}{worker} serves{_compared(path, answer.policy)}"
    return Found(explanation=answer, policy=served, informed=True, recorded=recorded)


def _compared(path: Path | None, served: str) -> str:
    """Whether a file says what is served, when one was named too. Raises PolicyError."""
    if path is None:
        return ""
    revision = read_source(path).digest[:12]
    return f", as in {path}" if revision == served else f", and not {path}, which is revision {revision}"
