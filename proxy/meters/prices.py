"""What shared tokens cost when the policy does not say: the price list that LiteLLM's wheel carries, read as data.

Theory of operation
-------------------
The list is one JSON file of some four thousand entries. The package is located, never imported (`find_spec` of a
top-level name runs none of its code), and only four fields of each entry are decoded, so a load costs milliseconds
instead of LiteLLM's seconds. A key is sometimes a bare model name (`gpt-4o`), sometimes `<provider>/<model>`, sometimes
`<provider>/<region>/<model>`; an entry names its own provider, which is what keeps a bare name from answering for a
provider it does not belong to.

Not modelled: prices that change with the length of the prompt, with batch or priority service, or for writing to a
cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import msgspec

from proxy.meters.money import nano_usd_per_mtok
from proxy.policy.model import Price

PACKAGE = "litellm"
FILE = "model_prices_and_context_window_backup.json"

# Bedrock's and Cohere's newer APIs, and OpenAI's older one, are listed under provider names of their own.
_ALSO_LISTED_AS: Mapping[str, tuple[str, ...]] = {
    "bedrock": ("bedrock_converse",),
    "cohere": ("cohere_chat",),
    "openai": ("text-completion-openai",),
    "azure": ("azure_text",),
}


class PriceListUnreadable(Exception):
    """The packaged price list is missing, or is not what it used to be."""


class _Entry(msgspec.Struct, gc=False):
    """The fields of one entry that are read; all costs are dollars per token."""

    litellm_provider: str = ""
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    cache_read_input_token_cost: float | None = None


class PriceList:
    """Prices by provider and model, as of one release of LiteLLM."""

    def __init__(self, entries: Mapping[str, _Entry], source: str) -> None:
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
        return cls(msgspec.json.decode(data, type=dict[str, _Entry], strict=False), source)

    def price_of(self, provider: str, model: str) -> Price | None:
        """The price of `model` at `provider` (LiteLLM's name for it), or None when the list does not say.

        `model` may repeat the provider (`together_ai/meta-llama/...`), or begin with one of its regions.
        """
        model = model.removeprefix(f"{provider}/")
        for key in (f"{provider}/{model}", model):
            entry = self._entries.get(key)
            if entry is not None and entry.input_cost_per_token is not None and _belongs(entry, provider):
                return _price(entry, entry.input_cost_per_token, self.source)
        return None


def _belongs(entry: _Entry, provider: str) -> bool:
    # `vertex_ai-language-models`, `fireworks_ai-embedding-models`: a provider, a dash and a family.
    listed = entry.litellm_provider
    return listed == provider or listed.startswith(f"{provider}-") or listed in _ALSO_LISTED_AS.get(provider, ())


def _price(entry: _Entry, input_cost: float, source: str) -> Price:
    cached = entry.cache_read_input_token_cost
    return Price(
        input_nano_usd_per_mtok=nano_usd_per_mtok(input_cost),
        output_nano_usd_per_mtok=nano_usd_per_mtok(entry.output_cost_per_token or 0.0),
        cached_input_nano_usd_per_mtok=None if cached is None else nano_usd_per_mtok(cached),
        source=source,
    )


def _find_list() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / FILE
        if path.is_file():
            return path
    raise PriceListUnreadable(f"no price list: the package `{PACKAGE}` is not installed, or carries no `{FILE}`")
