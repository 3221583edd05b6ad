"""The JSON schema is current, takes whatever the loader takes, and refuses what has the wrong form."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.cli.policy_assumed import Assumed
from proxy.policy.checks import Check
from proxy.policy.compile import compile_policy
from proxy.policy.key_sentences import SECTIONS, SENTENCES
from proxy.policy.problem import PolicyError
from proxy.policy.sections import SECTIONS as SECTION_NAMES
from proxy.policy.source import read_source
from tests.policy.as_json import SCHEMA, instance, schema_errors
from tests.policy.corpus import BROKEN, DOUBTFUL, ENV, expected
from tests.policy.policies import no_price
from tests.thorough import examples

POLICIES = Path(__file__).parents[2] / "policies"
SERVED = sorted(path for path in POLICIES.rglob("*.yaml") if not path.name.endswith(".test.yaml"))
OF_THE_FORM = {Check.UNKNOWN_KEY, Check.INVALID_VALUE}
COMPUTED = {  # well-formed: only a computation, or the rest of the policy, tells that they are wrong
    "budget_name_too_long",
    "budget_too_fine",
    "budget_too_large",
    "match_input_tokens_empty_span",
    "objective_out_of_range",
    "tenant_key_well_known",
    "time_hours_empty",
    "time_zone",
    "uptime_over_all",
    "url_metadata_service",
    "url_operation",
    "url_without_path",
    "wait_too_long",
    "wake_metadata_service",
}


def of(path: Path) -> Any:
    return instance(read_source(path).files)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_committed_schema_is_current() -> None:
    assert json.loads((POLICIES / "schema.json").read_text("utf-8")) == SCHEMA


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.stem)
def test_a_policy_that_is_served_fits(path: Path) -> None:
    assert schema_errors(of(path)) == []


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.stem)
def test_a_policy_that_is_served_says_where_its_schema_is(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / name).resolve() == POLICIES / "schema.json"


@pytest.mark.parametrize("path", DOUBTFUL, ids=lambda path: path.stem)
def test_a_doubtful_policy_fits(path: Path) -> None:
    assert schema_errors(of(path)) == []


@pytest.mark.parametrize(
    "path",
    [path for path in BROKEN if expected(path).check in OF_THE_FORM and path.stem not in COMPUTED],
    ids=lambda path: path.stem,
)
def test_a_policy_of_the_wrong_form_does_not(path: Path) -> None:
    assert schema_errors(of(path)) != []


def test_the_exceptions_are_still_needed() -> None:
    folder = Path(__file__).parent / "broken"
    assert [name for name in COMPUTED if schema_errors(of(folder / f"{name}.yaml"))] == []


@pytest.mark.parametrize("name", ["misspelt_key", "dedicated_with_provider", "dedicated_without_url", "no_version"])
def test_what_an_editor_marks_is_told_by_its_name(name: str) -> None:
    path = Path(__file__).parent / "broken" / f"{name}.yaml"
    assert schema_errors(of(path)) != []


def test_every_key_has_its_sentence_and_no_other_has() -> None:
    assert set(SECTIONS) == set(SECTION_NAMES)
    for shape, sentences in SENTENCES.items():
        assert set(sentences) == {key.name for key in fields(shape)}
        for sentence in sentences.values():
            assert not sentence.endswith(".")


def test_the_examples_fit() -> None:
    shown = 0
    for definition in SCHEMA["$defs"].values():
        for example in definition.get("examples", ()):
            jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], **definition}).validate(example)
            shown += 1
    assert shown > 20


WORDS = [
    "$5/day",
    "80%",
    "reject",
    "tenant",
    "hard",
    "eu-*",
    "zero",
    "30d",
    "2s",
    "99.9%",
    "2k",
    "fp8",
    "chat",
    "shared",
    "dedicated",
    "shadow",
    "mon-fri",
    "UTC",
]
SCALARS: list[Any] = [*WORDS, "${REGION}", "x y", "", 0, 1, 64, 1.5, -1, True, False]
WHOLE: list[Any] = [
    [],
    ["eu-*"],
    {},
    {"is": "eu-*"},
    {"is": 5, "mode": "shadow"},
    {"min": 5},
    {"rpm": "2k"},
    {"downgrade": "small"},
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def mutated(tree: Any, chance: random.Random) -> Any:
    """The tree with up to three values replaced, removed, moved or repeated."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, 3)):
        found = list(places(tree))
        (container, key), (giver, taken) = chance.choice(found), chance.choice(found)
        kind = chance.randrange(4)
        if kind == 0:
            container[key] = chance.choice(SCALARS)
        elif kind == 1:
            container[key] = copy.deepcopy(chance.choice(WHOLE))
        elif kind == 2:
            container[key] = copy.deepcopy(giver[taken])
        elif isinstance(container, dict):
            container[str(taken)] = copy.deepcopy(giver[taken])
    return tree


TREES = [of(path) for path in SERVED]


@settings(deadline=None, max_examples=examples(300))
@given(st.sampled_from(TREES), st.randoms(use_true_random=False))
def test_what_the_loader_takes_fits(tmp_path_factory: pytest.TempPathFactory, tree: Any, chance: random.Random) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(yaml.safe_dump(mutated(tree, chance), sort_keys=False), "utf-8")
    try:
        compile_policy(path, env=Assumed(ENV), price_of=no_price)
    except PolicyError:
        return
    assert schema_errors(of(path)) == []
