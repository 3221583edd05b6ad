"""What one attempt cost.

Theory of operation
-------------------
A shared attempt costs its tokens at the target's price. A dedicated attempt costs nothing at the margin: its GPUs are
paid by the hour whether it runs or not, and `gpu_hours` accrues that; what it takes of the engine's time is noted as
its work, by which those hours are shared out afterwards. Tokens of a shared target whose price nobody knows are not
free: the charge says `priced=False`, and the ledger counts it apart.
"""

from __future__ import annotations

from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Lane
from proxy.routing.charge import Charge
from proxy.routing.cost import cost_nano_usd
from proxy.routing.outcome import Outcome
from proxy.routing.work import work_us

BY_THE_HOUR = "gpu-hours"
UNKNOWN = "unknown"


def charge_of(outcome: Outcome) -> Charge:
    """The charge for one attempt, from its usage and the price that its target carries."""
    target = outcome.attempt.target
    usage = outcome.usage
    price = target.price
    work = 0
    if target.lane is Lane.DEDICATED:
        nano_usd, source, priced, work = 0, BY_THE_HOUR, True, work_us(usage, target.profile or ASSUMED)
    elif price is None:
        nano_usd, source, priced = 0, UNKNOWN, not (usage.input_tokens or usage.output_tokens)
    else:
        nano_usd, source, priced = cost_nano_usd(price, usage), price.source, True
    return Charge(
        target=target.name,
        lane=target.lane,
        nano_usd=nano_usd,
        usage=usage,
        price_source=source,
        priced=priced,
        work_us=work,
        estimated=usage.estimated,
    )
