"""The bill in FOCUS columns: names as the specification has them, money to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from proxy.meters.bill import bill
from proxy.meters.fields import COUNTERS
from proxy.meters.focus import COLUMNS, Type, focus_row, usd
from proxy.meters.usage_rows import TargetRow
from proxy.policy.model import Lane
from tests.meters.test_bill import HOUR, gpu, usage

TARGETS = {
    "api": TargetRow(name="api", lane=Lane.SHARED, model="llama-turbo", region="us", provider="together_ai"),
    "gpu": TargetRow(name="gpu", lane=Lane.DEDICATED, model="llama", region="unknown", gpu_type="H100"),
}
FOCUS_1_2 = {
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "BilledCost", "EffectiveCost",
    "BillingCurrency", "ChargeCategory", "ChargeFrequency", "ChargeDescription", "ConsumedQuantity", "ConsumedUnit",
    "ProviderName", "PublisherName", "InvoiceIssuerName", "RegionId", "ResourceId", "ResourceName", "ResourceType",
    "ServiceCategory", "ServiceSubcategory", "ServiceName", "SkuId", "SubAccountId", "Tags",
}  # fmt: skip


def test_whatever_is_not_of_the_specification_says_so() -> None:
    assert {name for name in COLUMNS if not name.startswith("x_")} == FOCUS_1_2


def test_every_count_has_a_column() -> None:
    assert len([name for name, kind in COLUMNS.items() if kind is Type.COUNT]) == len(COUNTERS) - 2
    row = focus_row(next(bill([usage("api", **dict.fromkeys(COUNTERS, 5))])), TARGETS)
    assert [name for name, kind in COLUMNS.items() if kind is Type.COUNT and row[name] != 5] == []
    assert (row["x_InputTokens"], row["x_CacheWriteTokens"], row["x_WorkUs"]) == (5, 5, 5)
    assert (row["x_EstimatedCost"], row["BilledCost"]) == (usd(5), usd(5))


def test_a_row_of_shared_tokens() -> None:
    row = focus_row(next(bill([usage("api", nano_usd=1_234_567, input_tokens=7, output_tokens=3)])), TARGETS)
    start = datetime.fromtimestamp(HOUR, UTC)
    said = {name: value for name, value in row.items() if not name.startswith("x_")}
    assert said == {
        "BillingPeriodStart": datetime(2026, 11, 1, tzinfo=UTC),
        "BillingPeriodEnd": datetime(2026, 12, 1, tzinfo=UTC),
        "ChargePeriodStart": start,
        "ChargePeriodEnd": datetime.fromtimestamp(HOUR + 3600, UTC),
        "BilledCost": Decimal("0.001234567"),
        "EffectiveCost": Decimal("0.001234567"),
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": "tokens of m at api for bank",
        "ConsumedQuantity": 10,
        "ConsumedUnit": "Tokens",
        "ProviderName": "together_ai",
        "PublisherName": "together_ai",
        "InvoiceIssuerName": "together_ai",
        "RegionId": "us",
        "ResourceId": "api",
        "ResourceName": "llama-turbo",
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "Shared inference",
        "SkuId": "m",
        "SubAccountId": "bank",
        "Tags": '{"tenant":"bank","key":"bank/ci","model":"m","route":"default","target":"api","lane":"shared"}',
    }
    assert (row["x_Kind"], row["x_Tenant"], row["x_Lane"]) == ("tokens", "bank", "shared")


def test_rows_of_gpu_time() -> None:
    tokens, used, idle = (focus_row(line, TARGETS) for line in bill([usage(work_us=5), gpu(8 * 10**9, busy=0.25)]))
    assert (tokens["BilledCost"], tokens["EffectiveCost"]) == (0, 2)
    assert (used["BilledCost"], used["EffectiveCost"], used["x_Kind"]) == (2, 0, "gpu-attributed")
    assert (idle["BilledCost"], idle["EffectiveCost"], idle["x_Kind"]) == (6, 6, "gpu-idle")
    assert (used["ConsumedQuantity"], used["ConsumedUnit"], used["x_ReplicaHours"]) == (1, "GPU Hours", Decimal("0.25"))
    assert (idle["ConsumedQuantity"], idle["SkuId"], idle["RegionId"]) == (3, "H100", None)
    assert (idle["SubAccountId"], idle["ProviderName"]) == (None, "self-hosted")


def test_a_target_that_has_left_the_policy_is_billed_all_the_same() -> None:
    row = focus_row(next(bill([usage("api", nano_usd=5)])), {})
    assert (row["BilledCost"], row["ProviderName"], row["ResourceName"]) == (Decimal("0.000000005"), "api", None)


@pytest.mark.parametrize(
    ("nano_usd", "text"), [(0, "0.000000000"), (1, "0.000000001"), (9 * 10**15 + 1, "9000000.000000001")]
)
def test_dollars_are_exact(nano_usd: int, text: str) -> None:
    assert f"{usd(nano_usd):f}" == text


def test_december_ends_with_the_year() -> None:
    at_s = int(datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp())
    row = focus_row(next(bill([usage("api", start_s=at_s)])), TARGETS)
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
