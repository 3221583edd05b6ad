"""Every check is in the README, and some policy shows it."""

from __future__ import annotations

import re

from proxy.policy.checks import Check, Severity
from tests.policy.corpus import BROKEN, DOUBTFUL, expected
from tests.readme import table

NEEDS_BYTES = {Check.UNREADABLE_FILE}  # a text in the corpus can be read


def test_the_readme_lists_each_with_its_severity() -> None:
    rows = [(check.strip("`"), severity, about) for check, severity, about in table("table: checks")]
    assert rows == [(check.value, check.severity.value, check.about) for check in Check]


def test_names_are_kebab_case_and_stand_for_themselves() -> None:
    for check in Check:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.value)
        assert Check(check.value) is check
        assert check.about[0].islower()
        assert not check.about.endswith(".")


def test_a_policy_of_the_corpus_shows_each() -> None:
    shown = {expected(path).check for path in (*BROKEN, *DOUBTFUL)}
    assert shown == {check.value for check in set(Check) - NEEDS_BYTES}


def test_what_is_refused_is_an_error_and_nothing_else_is() -> None:
    assert all(Check(expected(path).check).severity is Severity.ERROR for path in BROKEN)
    assert all(Check(expected(path).check).severity is not Severity.ERROR for path in DOUBTFUL)
