"""YAML to values that know their place; one text means one thing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.document import Document, read_document
from proxy.policy.source import SourceFile
from proxy.policy.variables import Interpolated


def read(*texts: str, **env: str) -> Document:
    return read_document(tuple(SourceFile(f"{index}.yaml", text) for index, text in enumerate(texts)), env)


def said(document: Document) -> list[str]:
    return [problem.message for problem in document.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("012", 12),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".nan", ".nan"),
        ("true", True),
        ("False", False),
        ("'5'", "5"),
        ('"true"', "true"),
        ("9" * 400, "9" * 400),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    document = read(f"key: {text}")
    assert document.root == {"key": value}
    assert type(document.root["key"]) is type(value)


def test_keys_and_values_keep_their_places() -> None:
    document = read("targets:\n  own:\n    urls: [a,  b]\n")
    assert document.place(("targets", "own"), key=True)[1:] == (2, 3)
    assert document.place(("targets", "own", "urls", 1))[1:] == (3, 16)


def test_what_has_no_place_has_that_of_what_is_around_it() -> None:
    document = read("targets:\n  own:\n    url: a\n")
    assert document.place(("targets", "own", "model"))[1:] == (2, 3)
    assert document.place(("nowhere", 5))[1:] == (1, 1)


def test_variables_are_replaced_in_values_only() -> None:
    document = read("${A}: x-${A}", A="1")
    value = document.root["${A}"]
    assert isinstance(value, Interpolated)
    assert value.value == "x-1"


def test_a_variable_cannot_inject_yaml() -> None:
    document = read("a: ${A}\n", A="x\nb: {c: d}")
    assert list(document.root) == ["a"]


def test_sections_of_several_files_are_united() -> None:
    document = read("version: 1\ntargets: {a: 1}\nroutes: [x]", "version: 1\ntargets: {b: 2}\nroutes: [y, z]")
    assert document.root == {"version": 1, "targets": {"a": 1, "b": 2}, "routes": ["x", "y", "z"]}
    assert document.place(("routes", 2)) == ("1.yaml", 3, 13)
    assert document.problems == []


def test_one_name_in_two_files_is_a_problem_that_points_at_both() -> None:
    document = read("targets: {a: 1}", "targets:\n  a: 2")
    (problem,) = document.problems
    assert (problem.path, problem.line) == ("1.yaml", 2)
    assert problem.message == "`a` is defined in two files"
    assert "0.yaml:1" in problem.hint
    assert document.root["targets"] == {"a": 1}


@pytest.mark.parametrize("again", ["targets:\n  b: 2\ntargets:\n  c: 3", "tenants: {bank: {rpm: 1}, bank: {rpm: 2}}"])
def test_a_later_file_says_nothing_twice_either(again: str) -> None:
    (told,) = said(read("targets: {a: 1}\ntenants: {bank: {keys: []}}", again))
    assert told.endswith("is given twice")


def test_the_keys_of_a_tenant_may_stand_in_several_files() -> None:
    document = read(
        "tenants:\n  bank:\n    keys: [a, {digest: b}]\n    rpm: 5\n",
        "tenants: {bank: {keys: c}}",
        "tenants:\n  bank:\n    keys:\n      digest: d\n  growth: {keys: [e]}\n",
        "tenants: {bank: {keys: {digest: f}}}",
    )
    assert document.problems == []
    assert document.root["tenants"] == {
        "bank": {"keys": ["a", {"digest": "b"}, "c", {"digest": "d"}, {"digest": "f"}], "rpm": 5},
        "growth": {"keys": ["e"]},
    }
    places = [document.place(("tenants", "bank", "keys", index)) for index in range(5)]
    assert [place[:2] for place in places] == [
        ("0.yaml", 3),
        ("0.yaml", 3),
        ("1.yaml", 1),
        ("2.yaml", 4),
        ("3.yaml", 1),
    ]
    assert document.place(("tenants", "growth", "keys", 0))[:2] == ("2.yaml", 5)


def test_a_tenant_whose_keys_stand_elsewhere_needs_none_of_its_own() -> None:
    document = read("tenants: {bank: {rpm: 5}}", "tenants: {bank: {keys: [a]}}")
    assert (document.root["tenants"], document.problems) == ({"bank": {"rpm": 5, "keys": ["a"]}}, [])


def test_all_else_that_is_said_of_a_tenant_belongs_to_one_file() -> None:
    document = read("tenants: {bank: {keys: [a], rpm: 5}}", "tenants:\n  bank:\n    keys: [b]\n    rpm: 6")
    (problem,) = document.problems
    assert (problem.path, problem.line, problem.message) == ("1.yaml", 4, "`rpm` is defined in two files")
    assert "0.yaml:1" in problem.hint
    assert document.root["tenants"] == {"bank": {"keys": ["a", "b"], "rpm": 5}}


def test_files_agree_on_the_version_and_on_the_kind_of_a_section() -> None:
    assert said(read("version: 2", "version: 1")) == ["`version` differs from an earlier file's"]
    assert said(read("targets: {a: 1}", "targets: [a]")) == ["`targets` differs from an earlier file's"]
    assert said(read("version: 1", "version: 1")) == []


def test_auth_belongs_to_one_file() -> None:
    assert said(read("auth: none", "auth: none")) == ["`auth` is defined in two files"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "- a\n", "just text"])
def test_what_is_no_mapping_is_unusable(text: str) -> None:
    document = read(text)
    assert len(document.problems) == 1
    assert () in document.broken


def test_a_broken_file_does_not_hide_the_mistakes_of_another() -> None:
    assert said(read("a: {b: 1", "b: &x 1")) == [
        "`{` is not closed, or a `,` is missing",
        "anchors are not supported: `&x`",
    ]


def test_an_alias_is_refused_where_it_stands() -> None:
    document = read("a: &x [1]\nb: *x")
    assert said(document) == ["anchors are not supported: `&x`", "aliases are not supported"]
    assert document.broken == {("b",)}


def test_a_bomb_of_aliases_is_never_unfolded() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    assert len(said(read(bomb))) == 21 + 40


def test_python_tags_build_nothing() -> None:
    document = read("a: !!python/object/apply:os.system [echo]")
    assert said(document) == ["tags are not supported"]


def test_deep_nesting_is_refused_without_recursion() -> None:
    assert "nested too deeply" in said(read("a: " + "[" * 900 + "]" * 900))


def test_a_key_that_is_no_word_is_refused() -> None:
    assert said(read("? [a, b]\n: c\nd: e")) == ["a key must be a word"]


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), PLAIN, max_size=5))
def test_json_reads_as_itself(value: dict[str, Any]) -> None:
    """JSON is YAML: every value survives, unless it holds a variable or is nested too deeply."""
    import json

    text = json.dumps(value)
    document = read(text or "{}")
    if "${" not in text and not document.problems:
        assert document.root == value


@given(st.text())
def test_any_text_is_read_or_refused_but_never_raises(text: str) -> None:
    document = read(text.encode("utf-8", "replace").decode())
    assert document.problems or isinstance(document.root, dict)
