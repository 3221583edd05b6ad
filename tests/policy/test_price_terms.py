"""`price`: kinds of token, tiers and lengths, and figures on the wrong side of each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.checks import Check
from proxy.policy.compile import check_policy
from proxy.policy.price import LongRates, Price, Tariff
from proxy.policy.problem import PolicyError, Problem

USD = 10**9
POLICY = """\
version: 1
targets:
  it: {{lane: shared, url: "https://api.example.com/v1", model: up, price: {price}}}
models: {{m: [it]}}
"""


def read(tmp_path: Path, price: str) -> tuple[Price | None, tuple[Problem, ...]]:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(price=price))
    compiled = check_policy(path, env={}, price_of=lambda provider, model: None)
    return compiled.snapshot.targets["it"].price, compiled.warnings


def odd(tmp_path: Path, price: str) -> list[tuple[int, str]]:
    _, warnings = read(tmp_path, price)
    return [(one.column, one.message) for one in warnings if one.check is Check.ODD_PRICE]


def test_every_kind_tier_and_length_is_read(tmp_path: Path) -> None:
    price, _ = read(
        tmp_path,
        "{input: 3, output: $15, cached_input: 0.3, cache_write: 3.75, cache_write_1h: 6, audio_input: 40, "
        "audio_output: 80, reasoning: 14, above: [{tokens: 1M, input: 9, output: 30}, {tokens: 200k, input: 6, "
        "output: 22.5, cached_input: 0.6}], batch: {input: 1.5, output: 7.5}, "
        "priority: {input: 6, output: 30, above: {tokens: 200k, input: 12, output: 45}}}",
    )
    assert price == Price(
        input_nano_usd_per_mtok=3 * USD,
        output_nano_usd_per_mtok=15 * USD,
        cached_input_nano_usd_per_mtok=300_000_000,
        cache_write_nano_usd_per_mtok=3_750_000_000,
        cache_write_1h_nano_usd_per_mtok=6 * USD,
        audio_input_nano_usd_per_mtok=40 * USD,
        audio_output_nano_usd_per_mtok=80 * USD,
        reasoning_nano_usd_per_mtok=14 * USD,
        above=(
            LongRates(
                input_nano_usd_per_mtok=6 * USD,
                output_nano_usd_per_mtok=22_500_000_000,
                cached_input_nano_usd_per_mtok=600_000_000,
                above_tokens=200_000,
            ),
            LongRates(input_nano_usd_per_mtok=9 * USD, output_nano_usd_per_mtok=30 * USD, above_tokens=1_000_000),
        ),
        tiers={
            "batch": Tariff(input_nano_usd_per_mtok=1_500_000_000, output_nano_usd_per_mtok=7_500_000_000),
            "priority": Tariff(
                input_nano_usd_per_mtok=6 * USD,
                output_nano_usd_per_mtok=30 * USD,
                above=(
                    LongRates(
                        input_nano_usd_per_mtok=12 * USD, output_nano_usd_per_mtok=45 * USD, above_tokens=200_000
                    ),
                ),
            ),
        },
    )
    assert hash(price)


def test_sane_figures_are_not_remarked_upon(tmp_path: Path) -> None:
    sane = "{input: 3, output: 15, cached_input: 0.3, cache_write: 3.75, cache_write_1h: 6, "
    sane += "above: {tokens: 200k, input: 6, output: 22.5}, flex: {input: 1.5, output: 7.5}}"
    assert odd(tmp_path, sane) == []


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ("cached_input: 3.1", "cached input costs more than input"),
        ("cached_input: 1, cache_write: 0.9", "writing to the cache costs less than reading from it"),
        ("cache_write: 4, cache_write_1h: 3.9", "an hour in the cache costs less than some minutes"),
        ("batch: {input: 3.1, output: 15}", "this input costs more than the standard tier's"),
        ("flex: {input: 3, output: 15.1}", "this output costs more than the standard tier's"),
        ("priority: {input: 2, output: 15}", "this input costs less than the standard tier's"),
        ("above: {tokens: 200k, input: 3, output: 14}", "this output costs less than that of a shorter input"),
        ("flex: {input: 3, output: 15, cached_input: 4}", "cached input costs more than input"),
    ],
)
def test_figures_on_the_wrong_side_of_each_other_are_pointed_out_and_charged(
    figures: str, message: str, tmp_path: Path
) -> None:
    assert [found for _, found in odd(tmp_path, f"{{input: 3, output: 15, {figures}}}")] == [message]


def test_the_figure_that_is_odd_is_pointed_at(tmp_path: Path) -> None:
    price = "{input: 3, output: 15, above: [{tokens: 9k, input: 5, output: 15}, {tokens: 8k, input: 6, output: 15}]}"
    ((column, _),) = odd(tmp_path, price)
    line = POLICY.format(price=price).splitlines()[2]
    assert line[column - 1 :].startswith("5, output")


def test_one_length_has_one_price(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    twice = "[{tokens: 200k, input: 6, output: 15}, {tokens: 200000, input: 7, output: 15}]"
    path.write_text(POLICY.format(price=f"{{input: 3, output: 15, above: {twice}}}"))
    with pytest.raises(PolicyError) as refused:
        check_policy(path, env={}, price_of=lambda provider, model: None)
    (problem,) = refused.value.problems
    assert (problem.check, problem.message) == (Check.DUPLICATE, "two prices above 200000 tokens")
