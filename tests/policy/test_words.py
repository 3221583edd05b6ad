"""Names, regions, retentions and enumerations: what is read, and how a wrong one is corrected."""

from __future__ import annotations

import pytest
from proxy.policy import words
from proxy.policy.model import Lane
from proxy.policy.problem import Mistake
from proxy.policy.variables import Interpolated


def test_a_name_may_hold_what_model_names_hold() -> None:
    assert words.name("meta-llama/Llama-3.3-70B:free") == "meta-llama/Llama-3.3-70B:free"


@pytest.mark.parametrize("written", ["", " a", "a b", "a\nb", "a{b}", 'a"b', "é", "a" * 129, 5, True, None, ["a"], {}])
def test_a_name_holds_nothing_that_a_label_or_a_header_cannot(written: object) -> None:
    with pytest.raises(Mistake):
        words.name(written)


@pytest.mark.parametrize("reserved", sorted(words.RESERVED))
def test_the_programs_own_label_values_are_no_names(reserved: str) -> None:
    with pytest.raises(Mistake, match="reserved"):
        words.name(reserved)


@pytest.mark.parametrize("written", ["eu-west-1", "us", "unknown"])
def test_regions(written: str) -> None:
    assert words.region(written) == written


def test_a_region_in_capitals_would_slip_past_a_glob() -> None:
    with pytest.raises(Mistake) as refused:
        words.region("EU-West-1")
    assert refused.value.hint == "write `eu-west-1`"


@pytest.mark.parametrize("written", ["eu-*", "e?-*", "eu-west-1", "*"])
def test_region_patterns(written: str) -> None:
    assert words.region_glob(written) == written


@pytest.mark.parametrize("written", ["eu-*, uk-*", "[eu]*", "EU-*", "", "unknown", 3])
def test_what_no_region_can_match_is_no_pattern(written: object) -> None:
    with pytest.raises(Mistake):
        words.region_glob(written)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("zero", "zero"), ("unknown", "unknown"), ("30d", "30d"), ("720h", "30d"), ("90s", "90s")],
)
def test_equal_retentions_are_spelt_alike(written: str, canonical: str) -> None:
    assert words.retention(written) == canonical


@pytest.mark.parametrize("written", [30, "forever", "0d", "none", None])
def test_what_is_no_retention_is_refused(written: object) -> None:
    with pytest.raises(Mistake):
        words.retention(written)


def test_a_gate_cannot_ask_for_an_unknown_retention() -> None:
    with pytest.raises(Mistake, match="satisfies no gate"):
        words.retention_limit("unknown")


def test_an_enumeration_answers_with_its_member() -> None:
    assert words.one_of(Lane)("shared") is Lane.SHARED


def test_a_slip_in_an_enumeration_is_corrected() -> None:
    with pytest.raises(Mistake) as refused:
        words.one_of(Lane)("dedicatd")
    assert refused.value.hint == "did you mean `dedicated`?"


def test_what_is_no_slip_gets_the_choice() -> None:
    with pytest.raises(Mistake) as refused:
        words.one_of(Lane)("gpu")
    assert refused.value.hint == "write one of `dedicated`, `shared`"


def test_only_booleans_are_flags() -> None:
    assert words.flag(False) is False
    for written in ("yes", "true", 1, 0, None):
        with pytest.raises(Mistake):
            words.flag(written)


def test_did_you_mean_lists_a_short_choice_and_not_a_long_one() -> None:
    assert words.did_you_mean("zzz", {"b", "a"}) == "known: `a`, `b`"
    assert words.did_you_mean("zzz", map(str, range(100))) == ""
    assert words.did_you_mean("zzz", ()) == ""


def test_nothing_can_require_training() -> None:
    assert words.refusal_of_training(False) is True
    with pytest.raises(Mistake, match="nothing can require that prompts are trained on"):
        words.refusal_of_training(True)


def test_a_precision_is_a_small_word() -> None:
    assert words.precision("fp8") == "fp8"
    for written in ("FP 8", "", 8, None):
        with pytest.raises(Mistake):
            words.precision(written)


def test_parameters_are_names_with_plain_values() -> None:
    given = {"inference_geo": "us", "store": False, "seed": 7}
    assert words.parameters(given) == given


@pytest.mark.parametrize(
    "written", [{"model": "x"}, {"messages": "x"}, {"stream": True}, {"a b": 1}, {"a": [1]}, {"a": {}}, ["a"], "a"]
)
def test_what_makes_up_the_request_is_no_parameter(written: object) -> None:
    with pytest.raises(Mistake):
        words.parameters(written)


def test_no_secret_becomes_a_parameter() -> None:
    with pytest.raises(Mistake) as refused:
        words.parameters({"key": Interpolated("s3cret", "${KEY}")})
    assert "s3cret" not in refused.value.message + refused.value.hint
