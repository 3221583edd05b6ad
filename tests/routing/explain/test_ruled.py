"""What a route requires and wants, in words."""

from __future__ import annotations

from proxy.policy.model import Lane, Limits, Objective, Route, Rules
from proxy.routing.explain.ruled import stated
from tests.routing.policies import ttft_p99

EVERYTHING = Rules(
    regions=("eu-*", "uk-*"),
    retention=("30d", "zero"),
    lane=Lane.DEDICATED,
    tags=frozenset({"hipaa", "soc2"}),
    no_training=True,
    quantization=frozenset({"fp8", "bf16"}),
    nano_usd_per_mtok=1_500_000_000,
    max_nano_usd_per_request=50_000_000,
    uptime=0.999,
    objectives=(*ttft_p99(0.8), Objective(rule="perceived_tps", field="itl_p99_s", limit_s=1 / 30)),
    limits=Limits(rpm=600, tpm=2_000_000, concurrency=50),
)


def test_every_rule_has_its_words() -> None:
    assert [(one.rule, one.limit) for one in stated(Route(name="all", require=EVERYTHING))] == [
        ("require.lane", "dedicated"),
        ("require.tags", "hipaa, soc2"),
        ("require.region", "eu-*, uk-*"),
        ("require.retention", "30d, zero"),
        ("require.training", "false"),
        ("require.quantization", "bf16, fp8"),
        ("require.usd_per_mtok", "$1.50/M tokens"),
        ("require.max_usd_per_request", "$0.05"),
        ("require.ttft_p99", "800 ms"),
        ("require.perceived_tps", "30.0 tokens/s"),
        ("require.uptime", "99.90%"),
        ("require.rpm", "600"),
        ("require.tpm", "2,000,000"),
        ("require.concurrency", "50"),
    ]


def test_no_rule_is_forgotten() -> None:
    """A new field of `Rules` must get its words here too."""
    assert {one for one in Rules.__slots__ if getattr(EVERYTHING, one) == getattr(Rules(), one)} == set()


def test_shadows_come_after_what_is_in_force() -> None:
    route = Route(
        name="gdpr",
        require=Rules(regions=("eu-*",)),
        want=Rules(objectives=ttft_p99(0.8)),
        shadow_require=Rules(no_training=True),
        shadow_want=Rules(uptime=0.99),
    )
    assert [(one.rule, one.limit, one.shadow) for one in stated(route)] == [
        ("require.region", "eu-*", False),
        ("want.ttft_p99", "800 ms", False),
        ("require.training", "false", True),
        ("want.uptime", "99.00%", True),
    ]


def test_no_rules_no_words() -> None:
    assert stated(Route(name="default")) == ()
