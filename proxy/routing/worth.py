"""Whether a request is worth the engine time that it would take, while there is more work than engines can do.

Theory of operation
-------------------
A request served on a dedicated replica saves its shared price p and uses up its work w of engine time; its density is
p / w. When engines are short, the time is worth the density of the last request that still gets some of it, the bid
price (Talluri and van Ryzin, 1998). A request below it is better paid for. Where all requests have one price there is
next to nothing to gain: whoever makes out the bid sees to that, and says 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.policy.model import Price
from proxy.routing.cost import plain_nano_usd
from proxy.routing.facts import Facts
from proxy.routing.place import expected_output_tokens
from proxy.routing.plan import Exclusion
from proxy.routing.predict import Steps
from proxy.routing.readings import Outlook

_NANO_USD_A_SECOND = 3600 / 1e9


def worth_less(steps: Steps, prices: Sequence[Price | None], facts: Facts, outlook: Outlook) -> Exclusion | None:
    """Why the request is not to take dedicated engine time.

    What it does: compares the cheapest of the shared targets' `prices`, for each second of work, with the bid.
    Reads: `Outlook.bid_nano_usd_per_s`, the request's expected size.
    When unknown: without a price there is nothing to compare, and the request takes its time.
    """
    density = density_nano_usd_per_s(steps, prices, facts, outlook)
    bid = outlook.bid_nano_usd_per_s
    if density is None or density >= bid:
        return None
    observed, limit = (f"${each * _NANO_USD_A_SECOND:.2f} an engine hour" for each in (density, bid))
    return Exclusion(steps.target.name, "bid", f"worth {observed}", limit, False)


def density_nano_usd_per_s(
    steps: Steps, prices: Sequence[Price | None], facts: Facts, outlook: Outlook
) -> float | None:
    """What the request costs on shared targets for each second of engine time it takes; None without a price."""
    cheapest = cheapest_nano_usd(prices, facts, outlook)
    return None if cheapest is None else cheapest / expected_work_s(steps, facts, outlook)


def cheapest_nano_usd(prices: Sequence[Price | None], facts: Facts, outlook: Outlook) -> int | None:
    """What the request is expected to cost at the least of the prices; None where there is none."""
    output_tokens = int(expected_output_tokens(facts, outlook))
    known = [plain_nano_usd(price, facts.input_tokens, output_tokens) for price in prices if price is not None]
    return min(known, default=None)


def expected_work_s(steps: Steps, facts: Facts, outlook: Outlook) -> float:
    """The engine time that the request takes where most of its prompt is cached."""
    hits = outlook.hits.get(steps.target.name)
    hit_tokens = 0 if hits is None else min(max(hits), facts.input_tokens - 1)
    return steps.work_s(facts.input_tokens, hit_tokens, expected_output_tokens(facts, outlook))
