"""The three reasons to go dedicated: each holds, does not, or is not known."""

from __future__ import annotations

from proxy.advisor.breakeven import BreakEven
from proxy.advisor.reasons import Promise, Seen, Steps, orchestration, scale, specialization

EVEN = BreakEven(
    utilisation=0.27,
    requests_per_s=1.7,
    tokens_per_month=6e9,
    full_requests_per_s=6.2,
    usd_per_mtok=0.2,
    shared_usd_per_mtok=0.72,
)


def seen(**more: object) -> Seen:
    return Seen(**{"target": "api", "attempts": 100_000, "failures": 10, **more})  # type: ignore[arg-type]


def test_scale_is_use_beyond_break_even() -> None:
    assert scale(EVEN, 0.5).holds is True
    assert scale(EVEN, 0.2).holds is False
    never = BreakEven(**{**{name: getattr(EVEN, name) for name in BreakEven.__slots__}, "utilisation": 1.2})
    assert scale(never, 0.9).holds is False
    assert "$0.200" in scale(never, 0.9).because


def test_what_nobody_else_may_serve_is_special() -> None:
    found = specialization(["support-ft"], 0.4, [], Promise())
    assert found.holds is True
    assert "support-ft: 40% of the work" in found.because


def test_an_objective_that_shared_targets_miss_is_special() -> None:
    assert specialization([], 0.0, [seen(ttft_p99_s=2.5)], Promise(ttft_s=2.0)).holds is True
    late = specialization([], 0.0, [seen(hourly_ttft_s=(0.5, 2.5, 3.0))], Promise(ttft_s=2.0))
    assert "in 2 of 3 hours" in late.because
    down = specialization([], 0.0, [seen(failures=500)], Promise(uptime=0.999))
    assert "99.500%" in down.because


def test_shared_targets_that_keep_their_promise_are_no_reason() -> None:
    assert specialization([], 0.0, [seen(ttft_p99_s=1.5)], Promise(ttft_s=2.0, uptime=0.999)).holds is False


def test_what_nobody_measured_is_unknown() -> None:
    assert specialization([], 0.0, [], Promise(ttft_s=2.0)).holds is None
    assert specialization([], 0.0, [seen(attempts=10, failures=10)], Promise(uptime=0.999)).holds is None
    assert orchestration(None).holds is None


def test_many_steps_on_the_network_are_felt() -> None:
    assert orchestration(Steps(calls=20, network_s=0.08)).holds is True
    assert orchestration(Steps(calls=2, network_s=0.08)).holds is False
