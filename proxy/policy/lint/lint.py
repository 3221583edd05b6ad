"""What a policy that may be served says, and its author probably did not mean.

Theory of operation
-------------------
The compiler refuses what cannot work; the lints look at what it made (`Snapshot`) for what works and makes no sense. No
lint reads the text of a policy but the search for keys: so a rule is found wherever and however it is written. Each
finding holds for every request and every reading; what only may happen is not reported.
"""

from __future__ import annotations

from proxy.policy.checks import Check
from proxy.policy.compile import Compiled
from proxy.policy.findings import Findings
from proxy.policy.lint.budgets import lint_budgets
from proxy.policy.lint.callers import lint_callers
from proxy.policy.lint.routes import lint_route
from proxy.policy.lint.scope import scopes
from proxy.policy.lint.secrets import lint_secrets
from proxy.policy.lint.speed import Observed, lint_speed
from proxy.policy.lint.targets import lint_targets
from proxy.policy.problem import Problem

NOTHING_SEEN: Observed = {}


def lint(compiled: Compiled, observed: Observed = NOTHING_SEEN) -> tuple[Problem, ...]:
    """The compiler's warnings and the lints' findings, in the order of the files."""
    snapshot = compiled.snapshot
    findings = Findings(compiled.document)
    routes = scopes(snapshot)
    for scope in routes:
        lint_route(scope, findings)
    lint_targets(snapshot, routes, findings)
    lint_callers(snapshot, routes, findings)
    lint_budgets(compiled.declared, snapshot, routes, findings)
    lint_speed(snapshot, routes, observed, findings)
    texts = {file.path: file.text for file in compiled.source.files}
    lint_secrets(compiled.document.root, texts, findings)
    return tuple(sorted((*_still_worth_saying(compiled.warnings, findings.warnings), *findings.warnings)))


def _still_worth_saying(warnings: tuple[Problem, ...], lints: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The compiler's warnings without those that a lint puts more sharply: a missing price that bars a target."""
    sharper = {problem.where for problem in lints if problem.check in (Check.PRICE_NEEDED, Check.UNPRICED_BUDGET)}
    return tuple(one for one in warnings if one.check is not Check.UNKNOWN_PRICE or one.where not in sharper)
