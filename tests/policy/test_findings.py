"""Problems are placed, sorted, and said once."""

from __future__ import annotations

from proxy.policy.checks import Check
from proxy.policy.document import read_document
from proxy.policy.findings import Findings
from proxy.policy.problem import Mistake
from proxy.policy.source import SourceFile


def findings(text: str = "targets:\n  own: {url: a}\nmodels:\n  m: [own]\n") -> Findings:
    return Findings(read_document((SourceFile("policy.yaml", text),), {}))


def test_problems_are_in_the_order_of_the_file_and_said_once() -> None:
    found = findings()
    found.problem(("models", "m"), "second")
    found.mistake(("targets", "own", "url"), Mistake("first"))
    found.problem(("models", "m"), "second")
    assert [str(problem) for problem in found.problems] == ["policy.yaml:2:14: first", "policy.yaml:4:6: second"]


def test_nothing_more_is_said_about_what_was_dropped() -> None:
    found = findings()
    found.drop(("targets", "own"))
    found.problem(("targets", "own", "url"), "noise")
    assert found.problems == ()
    assert found.has_dropped("targets", "models")
    assert not found.has_dropped("models")


def test_nothing_more_is_said_about_what_yaml_already_refused() -> None:
    found = findings("targets:\n  own: {url: }\n")
    found.problem(("targets", "own", "url"), "noise")
    assert [problem.message for problem in found.problems] == ["`url` has no value"]


def test_an_unknown_name_is_corrected_unless_its_section_is_unreadable() -> None:
    found = findings()
    found.unknown(("models", "m", 0), "target", "ownn", ["own"])
    assert [problem.hint for problem in found.problems] == ["did you mean `own`?"]
    found = findings()
    found.drop(("targets",))
    found.unknown(("models", "m", 0), "target", "ownn", [])
    assert found.problems == ()


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    text = "targets:\n  own: {model: '${KEY}'}\n"
    found = Findings(read_document((SourceFile("policy.yaml", text),), {"KEY": "sk-canary"}))
    found.problem(("targets",), "unknown provider `sk-canary`", "did you mean `sk-canary`?")
    found.warning(Check.UNKNOWN_PRICE, ("targets",), "no price for `sk-canary`")
    said = "\n".join(map(str, (*found.problems, *found.warnings)))
    assert "sk-canary" not in said
    assert said.count("`${KEY}`") == 3


def test_warnings_are_kept_apart() -> None:
    found = findings()
    found.warning(Check.UNUSED_TARGET, ("targets", "own"), "look at this")
    found.problem(("models",), "mend this", check=Check.UNKNOWN_NAME)
    assert [(problem.severity, problem.check) for problem in found.problems] == [("error", "unknown-name")]
    assert [(problem.severity, problem.check) for problem in found.warnings] == [("warning", "unused-target")]
    assert [str(warning) for warning in found.warnings] == ["policy.yaml:2:3: look at this"]
