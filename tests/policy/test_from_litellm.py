"""The parts of the LiteLLM import: reading with places, whose a deployment is, fallbacks, and writing."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.document import read_document
from proxy.policy.from_litellm.advice import note_leftovers
from proxy.policy.from_litellm.document import Config, read_config
from proxy.policy.from_litellm.fallbacks import read_aliases, read_fallbacks
from proxy.policy.from_litellm.given import Given, Keys, duration, usd_per_mtok
from proxy.policy.from_litellm.vendor import split_model, vendor_of
from proxy.policy.from_litellm.write import word
from proxy.policy.model import Lane
from proxy.policy.problem import Mistake, PolicyError
from proxy.policy.source import SourceFile


def config(text: str) -> Config:
    return read_config(SourceFile("c.yaml", f"model_list: []\n{text}"))


def leftovers(text: str) -> list[str]:
    """What is said of a config that nobody has looked at."""
    read = config(text)
    read.take(("model_list",))
    note_leftovers(read)
    return list(map(str, read.notes))


@pytest.mark.parametrize(
    "text",
    [
        "base: &base {a: 1, b: yes}\nmine: {<<: *base, b: 20_000}\n",
        "a: {b: 1}\nmine:\n  <<: [{x: 1, y: 2}, {y: 3, z: 4}]\n  z: 5\n",
        "n: [012, 0x1f, 1e-7, 1.5e+3, ~, '', 2026-01-01, off, 1:30]\n",
        'k: {2: a, true: b}\nt: "multi\n  line"\n',
    ],
)
def test_values_are_those_that_the_safe_loader_of_yaml_gives(text: str) -> None:
    def as_text(value: object) -> object:  # keys are always text here
        if isinstance(value, dict):
            return {str(key).lower(): as_text(inner) for key, inner in value.items()}
        return [as_text(inner) for inner in value] if isinstance(value, list) else value

    read = dict(config(text).root)
    assert as_text(read) == as_text(yaml.safe_load(f"model_list: []\n{text}"))


def test_every_key_knows_its_place() -> None:
    read = config("a:\n  - b: 1\n    c: [x, y]\n")
    assert read.place(("a",))[1:] == (2, 1)
    assert read.place(("a", 0, "c"))[1:] == (4, 5)
    assert read.place(("a", 0, "c", 1))[1:] == (4, 12)
    assert read.place(("a", 0, "c", 1, "absent"))[1:] == (4, 12)


def test_of_two_equal_keys_the_last_counts_and_it_is_said() -> None:
    read = config("a: 1\na: 2\n")
    assert read.root["a"] == 2
    (note,) = read.notes
    assert str(note).startswith("c.yaml:3:1: `a` is given twice (hint: LiteLLM takes the last one")
    assert note.hint.endswith("the first is on line 2")


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    lines = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 20))
    merges = "".join(f"b{n}: &b{n} {{<<: [*b{n - 1}, *b{n - 1}, *b{n - 1}]}}\n" for n in range(1, 20))
    for text in (f"a0: &a0 [x]\n{lines}", f"b0: &b0 {{x: 1}}\n{merges}"):
        with pytest.raises(PolicyError, match="too large"):
            config(text)


def test_what_is_neither_taken_nor_noted_is_left_over() -> None:
    read = config("router_settings: {a: 1, b: {c: 2, d: [3, {e: 4}]}}\nother: {x: {y: 1}}\n")
    read.take(("model_list",))
    read.take(("router_settings", "b", "d", 1, "e"))
    assert list(read.leftovers()) == [
        ("router_settings", "a"),
        ("router_settings", "b", "c"),
        ("router_settings", "b", "d", 0),
        ("other",),
    ]
    read.note((), "about all of it", "")
    assert len(list(read.leftovers())) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("general_settings: {master_key: sk-hunter2}", "2:20: not imported: `master_key` (hint: list `tenants`"),
        ("general_settings: {database_connection_pool_limit: 5}", "(hint: list `tenants`"),
        ("general_settings: {whatever: 5}", "(hint: Spillway's server has no such setting"),
        ("litellm_settings: {callbacks: [langfuse]}", "not imported: `callbacks` (hint: Spillway has Prometheus"),
        ("router_settings: {allowed_fails: 3}", "(hint: a failing replica is ejected"),
        ("environment_variables: {TOKEN: hunter2}", "not imported: `TOKEN` (hint: export it where Spillway runs"),
        ("include: [other.yaml]", "(hint: the files that it names were not read"),
        ("mcp_servers: {a: {url: 'https://hunter2@h'}}", "not imported: `mcp_servers`"),
        ("brand_new: 1", "(hint: Spillway knows no such section)"),
        ("general_settings:", "not imported: `general_settings`"),
    ],
)
def test_each_key_gets_the_advice_of_its_section_and_no_value_is_told(text: str, says: str) -> None:
    (note,) = leftovers(text)
    assert says in note
    assert "hunter2" not in note


def test_keys_with_the_same_advice_share_a_note_with_their_lines() -> None:
    text = "router_settings:\n  redis_host: h\n  num_retries: 1\n  redis_port: 1\nlitellm_settings: {num_retries: 2}"
    assert [note.partition(" (hint")[0] for note in leftovers(text)] == [
        "c.yaml:3:3: not imported: `redis_host`, `redis_port` (line 5)",
        "c.yaml:4:3: not imported: `num_retries` (line 6)",
    ]


def test_a_key_gets_a_variable_that_nothing_else_has() -> None:
    keys = Keys("api_key: os.environ/A_KEY")
    assert keys.variable_for("one", "A_KEY") == "A_KEY_2"
    assert keys.variable_for("two", "A_KEY") == "A_KEY_3"
    assert keys.variable_for("one", "B_KEY") == "A_KEY_2"
    assert keys.variable_for("three", "B_KEY") == "B_KEY"


def test_parameters_come_from_the_first_place_that_has_one() -> None:
    read = config("a: {x: 1, n: ~}\nb: {x: 2, y: many, n: 3}\n")
    given_values = Given(read, ("a",), ("absent",), ("b",))
    assert [given_values.take(key) for key in ("x", "n", "z")] == [1, 3, None]
    assert given_values.count("y") is None
    assert read.notes[0].message == "`y` is not imported: expected a whole number, got `many`"


def test_numbers_are_spelled_as_a_policy_has_them() -> None:
    assert [duration(value) for value in (30, 0.5, "90", 3600)] == ["30s", "500ms", "90s", "1h"]
    assert [usd_per_mtok(value) for value in (8.8e-7, "1e-6", 0, "0.0000000375")] == ["0.88", "1", "0", "0.0375"]
    for wrong in (True, "soon", float("nan"), float("inf"), -1, 0, 1e12, None):
        with pytest.raises(Mistake):
            duration(wrong)
    for wrong in (-1e-9, 2, "much", True):
        with pytest.raises(Mistake):
            usd_per_mtok(wrong)


def test_a_vendor_that_is_somewhere_else_keeps_its_name_and_address() -> None:
    vendor = vendor_of("groq", "x", "https://gateway.example.com/groq/v1/chat/completions/")
    assert (vendor.lane, vendor.provider, vendor.url) == (Lane.SHARED, "groq", "https://gateway.example.com/groq/v1")
    assert vendor.key == "GROQ_API_KEY"
    assert vendor_of("ollama", "x", "https://ollama.com").lane is Lane.SHARED
    assert vendor_of("scx-ai", "x", None).key == "SCX_AI_API_KEY"
    assert vendor_of("azure", "x", None).url == "${AZURE_API_BASE}"


def test_a_model_without_a_provider_is_found_by_its_name_or_refused() -> None:
    assert split_model("o3-mini") == ("openai", "o3-mini")
    assert split_model("anthropic.claude-v2") == ("bedrock", "anthropic.claude-v2")
    assert split_model("meta/llama", named="nvidia_nim") == ("nvidia_nim", "meta/llama")
    with pytest.raises(Mistake, match="names no provider"):
        split_model("orca-mini")


def test_fallbacks_of_the_router_win_and_are_followed_to_their_end() -> None:
    read = config(
        "router_settings: {fallbacks: [{a: [b]}, {b: [c, a]}, {c: {model: d, x: 1}}], max_fallbacks: 2}\n"
        "litellm_settings: {fallbacks: [{a: [z]}], default_fallbacks: [g]}\n"
    )
    fallbacks = read_fallbacks(read)
    assert fallbacks.of("a") == ["b", "c"]
    assert fallbacks.of("other") == ["g"]
    assert sorted(set(fallbacks.names())) == ["a", "b", "c", "d", "g"]
    messages = [note.message for note in read.notes]
    assert "`litellm_settings.fallbacks` has no effect: `router_settings.fallbacks` is there" in messages
    assert "a fallback's own parameters are not imported" in messages


def test_aliases_may_be_words_or_mappings() -> None:
    read = config("router_settings: {model_group_alias: {a: m, b: {model: n, hidden: true}, c: 5}}\n")
    assert {alias: model for alias, (model, _) in read_aliases(read).items()} == {"a": "m", "b": "n"}
    assert [note.message for note in read.notes] == ["`b` will be listed by /v1/models", "alias `c` names no model"]


@given(st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and "${" not in text))
def test_a_word_is_read_back_as_it_was(text: str) -> None:
    for line in (f"k: {word(text)}  # comment", f"k:\n  - {word(text)}"):
        root = read_document((SourceFile("p.yaml", line),), {}).root
        assert root["k"] in (text, [text]), line


def test_common_words_are_written_plain() -> None:
    plain = ("gpt-4.1", "meta-llama/Llama-3.3-70B", "http://h:8000/v1", "llama3.1:8b", "${NAME}", "claude@2025")
    assert [word(text) for text in plain] == list(plain)
    assert [word(text) for text in ("yes", "null", "1", "a: b", "#x")] == ['"yes"', '"null"', '"1"', '"a: b"', '"#x"']
    assert re.fullmatch(r'".*"', word("-"))
