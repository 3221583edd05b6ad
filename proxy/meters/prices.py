"""What shared tokens cost when the policy does not say: the price list that LiteLLM's wheel carries, read as data.

Theory of operation
-------------------
The list is one JSON file of some four thousand entries. The package is located, never imported (`find_spec` of a
top-level name runs none of its code), and an entry is decoded only when it is asked for, so a load costs milliseconds
instead of LiteLLM's seconds. A key is sometimes a bare model name (`gpt-4o`), sometimes `<provider>/<model>`, sometimes
`<provider>/<region>/<model>`; an entry names its own provider, which is what keeps a bare name from answering for a
provider it does not belong to.

An entry's costs are dollars per token under names such as `input_cost_per_token`, the same with
`_above_200k_tokens` where a longer input makes the whole request dearer, and with `_batches`, `_flex` or `_priority`
after that where a service tier has figures of its own.

Not modelled: what is not paid by the token (images, seconds, searches, sessions), and surcharges for a region.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from proxy.meters.money import nano_usd_per_mtok
from proxy.policy.price import LongRates, Price, Tariff

PACKAGE = "litellm"
FILE = "model_prices_and_context_window_backup.json"

# Bedrock's and Cohere's newer APIs, and OpenAI's older one, are listed under provider names of their own.
_ALSO_LISTED_AS: Mapping[str, tuple[str, ...]] = {
    "bedrock": ("bedrock_converse",),
    "cohere": ("cohere_chat",),
    "openai": ("text-completion-openai",),
    "azure": ("azure_text",),
}
_KINDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "reasoning": "output_cost_per_reasoning_token",
}
_VARIANT = re.compile(r"input_cost_per_token(?:_above_([0-9]{1,6})k_tokens)?(?:_([a-z]+))?")
_TIERS = {"batches": "batch"}
"""Tiers that the list spells otherwise than providers do."""

Entry = Mapping[str, Any]
_decode_entry = msgspec.json.Decoder(dict[str, Any]).decode


class PriceListUnreadable(Exception):
    """The packaged price list is missing, or is not what it used to be."""


class PriceList:
    """Prices by provider and model, as of one release of LiteLLM."""

    def __init__(self, entries: Mapping[str, msgspec.Raw], source: str) -> None:
        self._entries = entries
        self.source = source

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def load(cls) -> PriceList:
        """Read the packaged list. Raises PriceListUnreadable."""
        path = _find_list()
        try:
            data = path.read_bytes()
            return cls.decode(data, f"{PACKAGE} {importlib.metadata.version(PACKAGE)}")
        except (OSError, msgspec.MsgspecError, importlib.metadata.PackageNotFoundError) as error:
            raise PriceListUnreadable(f"cannot read the price list of `{PACKAGE}`: {error}") from error

    @classmethod
    def decode(cls, data: bytes, source: str) -> PriceList:
        """A list from its JSON text. Raises msgspec.MsgspecError."""
        return cls(msgspec.json.decode(data, type=dict[str, msgspec.Raw]), source)

    def price_of(self, provider: str, model: str) -> Price | None:
        """The price of `model` at `provider` (LiteLLM's name for it), or None when the list does not say.

        `model` may repeat the provider (`together_ai/meta-llama/...`), or begin with one of its regions.
        """
        model = model.removeprefix(f"{provider}/")
        for key in (f"{provider}/{model}", model):
            entry = self._entry(key)
            if _cost(entry, _KINDS["input"]) is not None and _belongs(entry, provider):
                return _price(entry, self.source)
        return None

    def _entry(self, key: str) -> Entry:
        raw = self._entries.get(key)
        try:
            return {} if raw is None else _decode_entry(raw)
        except msgspec.MsgspecError:
            return {}


def _belongs(entry: Entry, provider: str) -> bool:
    # `vertex_ai-language-models`, `fireworks_ai-embedding-models`: a provider, a dash and a family.
    listed = str(entry.get("litellm_provider", ""))
    return listed == provider or listed.startswith(f"{provider}-") or listed in _ALSO_LISTED_AS.get(provider, ())


def _price(entry: Entry, source: str) -> Price:
    """All that an entry says; `thousands` of tokens are those above which a longer input costs more, by tier."""
    thousands: dict[str, list[int]] = {"": []}
    for name in entry:
        if (variant := _VARIANT.fullmatch(name)) is not None and _cost(entry, name) is not None:
            above, tier = variant[1], variant[2] or ""
            thousands.setdefault(tier, []).extend([int(above)] if above else [])
    tiers = {_TIERS.get(tier, tier): _tariff(entry, tier, found) for tier, found in thousands.items() if tier}
    plain = _tariff(entry, "", thousands[""])
    return Price(**_rates(entry, ""), above=plain.above, tiers=MappingProxyType(tiers), source=source)


def _tariff(entry: Entry, tier: str, thousands: list[int]) -> Tariff:
    suffix = f"_{tier}" if tier else ""
    above = tuple(
        LongRates(**_rates(entry, f"_above_{length}k_tokens{suffix}"), above_tokens=length * 1000)
        for length in sorted(thousands)
    )
    return Tariff(**_rates(entry, suffix), above=above)


def _rates(entry: Entry, suffix: str) -> dict[str, Any]:
    """The rates under names with `suffix`; without the input's or the output's, the plain one stands in."""
    found = {kind: _cost(entry, f"{name}{suffix}") for kind, name in _KINDS.items()}
    for whole in ("input", "output"):
        if found[whole] is None:
            found[whole] = _cost(entry, _KINDS[whole]) or 0
    return {f"{kind}_nano_usd_per_mtok": cost for kind, cost in found.items()}


def _cost(entry: Entry, name: str) -> int | None:
    """Dollars per token as nano-USD per million; None where there is no such figure, or none that can be a price."""
    try:
        usd_per_token = float(entry[name])
    except (KeyError, TypeError, ValueError):
        return None
    return nano_usd_per_mtok(usd_per_token) if 0 <= usd_per_token < math.inf else None


def _find_list() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / FILE
        if path.is_file():
            return path
    raise PriceListUnreadable(f"no price list: the package `{PACKAGE}` is not installed, or carries no `{FILE}`")
