"""The verdicts, each on traffic that was made for it; and what stands in the table, the JSON and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from proxy.advisor import advice_words as words
from proxy.advisor.advice import Advice, Asked, Verdict, advise, captive_share
from proxy.advisor.advice_html import to_html
from proxy.advisor.advice_json import plain, to_json
from proxy.advisor.demand import Demand
from proxy.advisor.value import Shared
from proxy.policy.engine_profiles import PROFILES
from tests.advisor.weeks import CHEAP, DEAR, OFFER, demand

WEEK = (1.0, 1.1, 0.9, 1.0, 1.0, 0.6, 0.5)


def asked(of: Demand, *allowed: Shared, **more: object) -> Asked:
    choices = {"demand": of, "offer": OFFER, "lawful": [list(allowed)] * len(of.apps), "providers": {}, **more}
    return Asked(**choices)  # type: ignore[arg-type]


def advised(of: Demand, *allowed: Shared, **more: object) -> Advice:
    return advise(asked(of, *allowed, **more), np.random.default_rng(1))


@pytest.fixture(scope="module")
def busy() -> Demand:
    """Enough to fill a replica by day."""
    return demand(0.8, WEEK)


@pytest.fixture(scope="module")
def bought(busy: Demand) -> Advice:
    return advised(
        busy,
        DEAR,
        providers={"`deepinfra` allowed too": [[DEAR, CHEAP]]},
        growth=0.1,
        others=(replace(OFFER, name="smaller", profile=PROFILES["70b-fp8-1xh200"], usd_per_hour=3.5),),
    )


def test_buy_one_where_one_saves_on_every_day(bought: Advice) -> None:
    assert (bought.verdict, bought.recommended) == (Verdict.BUY, 1)
    assert words.headline(bought).startswith("Buy one replica of `llama`: $")
    assert bought.certainty.positive[1] == 1.0


def test_buy_nothing_where_a_cheap_provider_is_allowed(busy: Demand, bought: Advice) -> None:
    found = advised(busy, DEAR, CHEAP)
    assert (found.verdict, found.recommended) == (Verdict.DO_NOT_BUY, 0)
    assert words.headline(found).startswith("Do not buy a GPU: it would be used ")
    assert any("shared tokens " in one and "one replica is best" in one for one in words.turning_points(found))
    assert [case.best for case in bought.providers] == [0]
    assert any("`deepinfra` allowed too: buy nothing" in one for one in words.turning_points(bought))


def test_do_not_buy_what_saves_less_than_two_percent(busy: Demand) -> None:
    margin = float(advised(busy, DEAR).sizing.use[0] / advised(busy, DEAR).even.utilisation)
    dear_gpu = replace(OFFER, usd_per_hour=OFFER.usd_per_hour * margin * 0.985)
    found = advised(busy, DEAR, offer=dear_gpu)
    assert found.sizing.best == 1
    assert 0 < found.saving(1) < 0.02 * found.base_usd_per_hour
    assert found.verdict is Verdict.DO_NOT_BUY
    assert "less than 2% is not worth it" in words.headline(found)


def test_never_buy_where_a_full_replica_costs_more_than_tokens(busy: Demand) -> None:
    pennies = Shared(target="pennies", provider="x", price=replace(CHEAP.price, input_nano_usd_per_mtok=10**8))
    found = advised(busy, pennies, offer=replace(OFFER, usd_per_hour=20.0))
    assert found.verdict is Verdict.DO_NOT_BUY
    assert not found.even.ever
    assert "always full makes a million tokens for" in words.headline(found)


def test_wait_where_only_one_day_was_watched() -> None:
    found = advised(demand(0.8, [1.0]), DEAR)
    assert (found.verdict, found.recommended, found.sizing.best) == (Verdict.WAIT, 0, 1)
    assert "24 hours proves nothing about other days" in words.headline(found)
    assert any("very little" in one for one in words.cautions(found))


def test_wait_where_a_few_hot_days_make_the_whole_saving() -> None:
    found = advised(demand(0.4, (8.0, 8.0, 8.0, *(0.05,) * 4)), DEAR)
    assert (found.verdict, found.recommended) == (Verdict.WAIT, 0)
    assert found.sizing.best > 0
    assert "probability" in words.headline(found)


def test_give_back_what_is_not_used(busy: Demand) -> None:
    found = advised(busy, DEAR, have=3)
    assert (found.verdict, found.recommended) == (Verdict.GIVE_BACK, 1)
    assert words.headline(found).startswith("Give two of three replicas of `llama` back: $")
    alone = advised(demand(0.01, WEEK), DEAR, have=1)
    assert (alone.verdict, alone.recommended) == (Verdict.GIVE_BACK, 0)


def test_keep_what_pays(busy: Demand) -> None:
    found = advised(busy, DEAR, have=1)
    assert (found.verdict, found.recommended) == (Verdict.KEEP, 1)
    assert "one more would not pay" in words.headline(found)


def test_captive_work_is_bought_for_whatever_it_costs() -> None:
    of = demand(0.4, WEEK, apps=2)
    found = advise(replace(asked(of), lawful=[[], [DEAR]]), np.random.default_rng(1))
    assert captive_share(of, found.value) == pytest.approx(0.5, abs=0.02)
    assert found.verdict is Verdict.BUY
    assert found.recommended >= found.sizing.least > 0
    assert found.reasons[1].holds is True


def test_all_captive_is_sized_by_its_own_quantile() -> None:
    of = demand(0.4, WEEK)
    found = advise(asked(of), np.random.default_rng(1))
    reached = np.cumsum(of.counts.sum(axis=0)) / of.counts.sum()
    quantile = of.edges[1:][np.searchsorted(reached, 0.99)]
    assert found.recommended == int(np.ceil(quantile / OFFER.capacity))
    assert found.verdict is Verdict.BUY
    assert "no allowed shared target may serve 100% of the work" in words.headline(found)
    assert found.mean.input_tokens == pytest.approx(6000, rel=0.02)
    assert all(one.worth for one in found.commitments[: found.recommended])
    assert list(words.cases(found)) == []
    page = to_html([found])
    assert page.count("<svg") == 4
    assert "inf" not in words.even(found)


def test_more_replicas_are_looked_at_until_the_best_is_among_them() -> None:
    found = advised(demand(8.0, [1.0, 1.0, 1.0]), DEAR)
    assert 6 < found.recommended < found.sizing.most
    assert advised(demand(8.0, [1.0, 1.0, 1.0]), DEAR, most=3).sizing.best == 3


def test_growth_brings_the_next_replica(bought: Advice) -> None:
    bests = [one.best for one in bought.later]
    assert bests == sorted(bests)
    assert bests[-1] > bests[0] == 1


def test_a_better_kind_of_replica_is_said_so(busy: Demand) -> None:
    half = replace(OFFER, name="half price", usd_per_hour=3.0)
    found = advised(busy, DEAR, others=(half,))
    assert found.better is not None
    assert any("the better choice" in one for one in words.alternatives(found))
    dearer = advised(busy, DEAR, others=(replace(half, usd_per_hour=9.0),))
    assert dearer.better is None


def test_the_json_is_whole_and_finite(bought: Advice) -> None:
    (found,) = json.loads(to_json([bought]))["advices"]
    assert found["verdict"] == "buy"
    assert found["replicas"][1]["use"] == pytest.approx(float(bought.sizing.use[0]))
    assert found["break_even"]["ever"] is True
    nothing = advised(demand(0.4, [1.0]), replace(DEAR, price=replace(DEAR.price, input_nano_usd_per_mtok=0)))
    assert json.loads(json.dumps(plain(nothing)))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_one_file_with_its_plots(bought: Advice) -> None:
    page = to_html([bought])
    tags = _Tags()
    tags.feed(page)
    assert tags.seen.count("svg") == 5
    assert "script" not in tags.seen
    assert [link for link in tags.links if "http" in link] == []
    assert "Buy one replica of <code>llama</code>: $" in page
    for label in ("dollars an hour", "work-seconds a second", "break-even: ", "requests a second, on average"):
        assert label in page


@pytest.mark.parametrize("levels", [[1.0], [0.02]])
def test_pages_of_short_and_of_thin_traffic_are_drawn(levels: list[float]) -> None:
    assert to_html([advised(demand(0.05, levels), DEAR)]).count("<svg") == 5


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (13.9, "$13.90"),
        (-2.98, "-$2.98"),
        (0.0, "$0.00"),
        (999.99, "$1.0k"),
        (15_930.0, "$15.9k"),
        (234_000.0, "$234k"),
        (1.25e6, "$1.2M"),
    ],
)
def test_dollars_as_people_say_them(amount: float, told: str) -> None:
    assert words.usd(amount) == told
