"""Whose a LiteLLM deployment is: one of the GPUs of the house, or a vendor's; where it is, and what its key is called.

Theory of operation
-------------------
LiteLLM writes the provider in front of the model (`azure/gpt-4o`), guesses it from familiar names, and takes what a
deployment does not say from the environment. Spillway wants all three written down, and wants to know besides which
deployments are paid by the hour. That is read from the provider (`hosted_vllm`, `ollama` ...) or, for those that only
speak OpenAI's protocol, from the address: a private one, or one without TLS, is taken to be the house's own.

The names of variables and default addresses are those of LiteLLM 1.106.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from proxy.policy import providers
from proxy.policy.model import Endpoint, Engine, Lane
from proxy.policy.problem import Mistake
from proxy.policy.urls import base_url, has_path, is_clear_text_to_public_host

REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")

_FAMILIAR = (
    (re.compile(r"(gpt-|chatgpt-|o[1-9](-|$)|text-embedding-(3|ada)|ft:gpt-|codex-|davinci|babbage)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(command|embed-(english|multilingual)|c4ai-)"), "cohere"),
    (re.compile(r"(gemini-|text-embedding-00|textembedding-gecko|chat-bison|text-bison)"), "vertex_ai"),
    (re.compile(r"((us|eu|apac|global)\.)?(anthropic|amazon|meta|mistral|cohere|ai21)\.[a-z]"), "bedrock"),
)
"""How LiteLLM takes a model without a provider; its own table has each name, this one the families."""

_ALSO_CALLED = {
    "aiohttp_openai": "openai",
    "text-completion-openai": "openai",
    "vertex_ai_beta": "vertex_ai",
    "bedrock_converse": "bedrock",
    "vllm": "hosted_vllm",
    "ollama_chat": "ollama",
}
_OWN_ENGINES = {
    "hosted_vllm": Engine.VLLM,
    "llamafile": Engine.LLAMACPP,
    **dict.fromkeys(("ollama", "lm_studio", "xinference", "docker_model_runner", "lemonade", "oobabooga")),
}
"""Providers that are an engine of one's own. None is an engine whose metrics Spillway does not know."""

_OPENAI_SPEAKERS = frozenset({"openai", "custom_openai", "openai_like"})
_OWN_ADDRESSES = {"ollama": "http://localhost:11434", "llamafile": "http://127.0.0.1:8080/v1"}
_NO_KEY = frozenset({"bedrock", "sagemaker", "sagemaker_chat", "vertex_ai"})  # they sign their requests
_KEYS = {
    "azure_text": "AZURE_API_KEY",
    "cohere_chat": "COHERE_API_KEY",
    "custom_openai": "OPENAI_API_KEY",
    "anthropic_text": "ANTHROPIC_API_KEY",
    "ai21_chat": "AI21_API_KEY",
    "lambda_ai": "LAMBDA_API_KEY",
    "meta_llama": "LLAMA_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
    "vercel_ai_gateway": "VERCEL_AI_GATEWAY_API_KEY",
    "watsonx_text": "WATSONX_API_KEY",
    "together_ai": "TOGETHER_API_KEY",
}
_INTERACTIVE = "LiteLLM signs in to it by hand, in a browser; Spillway cannot"
_PSEUDO = (
    "it is not a model but a router inside LiteLLM; match on `tags`, `input_tokens` or `modality` in `routes` instead"
)
_UNREACHABLE = {
    "a2a": "it calls agents, not models",
    "auto_router": _PSEUDO,
    "chatgpt": _INTERACTIVE,
    "custom": "it is Python code of yours; put it behind an OpenAI-compatible url",
    "github_copilot": _INTERACTIVE,
    "petals": "it needs LiteLLM's own client",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """Whose deployment it is. `url` is an address, a `${NAME}`, or None for the provider's own.

    `key` is the variable that LiteLLM would read where the deployment has no key, None where none is needed. `remarks`
    are (message, hint) pairs for whoever reads the policy.
    """

    lane: Lane
    provider: str | None
    engine: Engine | None
    url: str | None
    key: str | None
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def native(self) -> frozenset[Endpoint]:
        """The endpoints that may be named for it; empty where LiteLLM translates."""
        if self.lane is Lane.DEDICATED:
            return providers.ENGINES[self.engine or Engine.OPENAI]
        if self.provider is None:
            return providers.OPENAI_COMPATIBLE
        known = providers.NATIVE.get(self.provider)
        return known.native if known is not None and known.speaks_openai else frozenset()


def split_model(written: str, named: str | None = None, address: str | None = None) -> tuple[str, str]:
    """(provider, model) of LiteLLM's `provider/model`; `named` is `custom_llm_provider`. Raises `Mistake`."""
    first, _, rest = written.partition("/")
    provider, model = (first, rest) if rest else ("", written)
    if named:
        provider, model = named, rest if rest and first == named else written
    elif not (rest and _is_known(provider)):
        provider, model = _guessed(written, address), written
    if provider in _UNREACHABLE:
        raise Mistake(f"provider `{provider}` has no equivalent", _UNREACHABLE[provider])
    provider = _ALSO_CALLED.get(provider, provider)
    if not _is_known(provider):
        raise Mistake(f"unknown provider `{provider}`", "if it speaks OpenAI's protocol, give the target its `url`")
    return provider, model


def vendor_of(provider: str, model: str, address: str | None) -> Vendor:
    """Whose the deployment is, by its `provider` and its `api_base`. Raises `Mistake`: it cannot be written down."""
    url, remarks = _read_address(address)
    if provider in _OWN_ENGINES and not _is_hosted(url):
        return _own(provider, _OWN_ENGINES[provider], url, remarks)
    if provider in _OPENAI_SPEAKERS and _is_own(url):
        hint = "if it is a gateway or an api paid by the token, write `lane: shared`"
        return _own(provider, None, url, (*remarks, (f"`{url}` is taken to be GPUs of your own", hint)))
    if provider == "huggingface" and _is_own(url):
        return _own(provider, Engine.TGI, url, remarks)
    if url is not None and is_clear_text_to_public_host(url):
        raise Mistake(f"prompts and key would go in clear to `{url}`", "use https")
    if provider in _OPENAI_SPEAKERS:
        return _openai_speaker(provider, model, url, remarks)
    known = providers.NATIVE.get(provider)
    if url is None and (provider in providers.NEEDS_URL or (known is not None and known.url is None)):
        url = f"${{{_variable(provider)}_API_BASE}}"
        remarks += ((f"no address: LiteLLM takes it from the environment, so the target has `{url}`", "set it"),)
    if provider == "anthropic" and url is not None and "$" not in url and not has_path(url):
        url += "/v1"
    return _shared(provider, url, remarks)


def _own(provider: str, engine: Engine | None, url: str | None, remarks: tuple[tuple[str, str], ...]) -> Vendor:
    if url is None:
        url = _OWN_ADDRESSES.get(provider) or f"${{{_variable(provider)}_API_BASE}}"
    if "$" in url:
        remarks += ((f"the value of `{url}` has to be a base url with its path, such as `http://host:8000/v1`", ""),)
    elif provider == "ollama":
        url = url.removesuffix("/api").removesuffix("/v1") + "/v1"
    elif engine is not None and not has_path(url):
        remarks += ((f"`{url}` has no path; `/v1` was added", "check it: engines serve their api there"),)
        url += "/v1"
    return Vendor(lane=Lane.DEDICATED, provider=None, engine=engine, url=url, key=None, remarks=remarks)


def _openai_speaker(provider: str, model: str, url: str | None, remarks: tuple[tuple[str, str], ...]) -> Vendor:
    if url is None and provider != "openai":
        url = "${OPENAI_LIKE_API_BASE}"
        remarks += ((f"no address: LiteLLM takes it from the environment, so the target has `{url}`", "set it"),)
    host = urlsplit(url or "").hostname or ""
    is_openai = url is None or host.endswith("openai.com") or ("$" in url and _family(model) == "openai")
    found = "openai" if is_openai else _at(host)
    return replace(_shared(found or provider, url, remarks), provider=found)


def _shared(provider: str, url: str | None, remarks: tuple[tuple[str, str], ...]) -> Vendor:
    known = providers.NATIVE.get(provider)
    url = None if known is not None and url == known.url else url
    key = _key_of(provider)
    return Vendor(lane=Lane.SHARED, provider=provider, engine=None, url=url, key=key, remarks=remarks)


def _key_of(provider: str) -> str | None:
    return None if provider in _NO_KEY else _KEYS.get(provider, f"{_variable(provider)}_API_KEY")


def _at(host: str | None) -> str | None:
    """The provider whose own address is at `host`."""
    addresses = ((name, one.url) for name, one in sorted(providers.NATIVE.items()) if one.speaks_openai and one.url)
    return next((name for name, url in addresses if host and urlsplit(url).hostname == host), None)


def _read_address(address: str | None) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """(the url to write, remarks); `os.environ/NAME` becomes `${NAME}`. Raises `Mistake`."""
    if not address:
        return None, ()
    reference = REFERENCE.fullmatch(address)
    if reference:
        return f"${{{reference[1]}}}", ()
    if "$" in address or address.startswith("os.environ/"):
        raise Mistake(
            "`api_base` is a template that is not filled in", "import the config that LiteLLM is started with"
        )
    trimmed = re.sub(r"/(chat/completions|completions|embeddings|responses|messages)/*$", "", address.strip())
    cut = ((f"`api_base` names one operation; it was cut to `{base_url(trimmed)}`", ""),)
    return base_url(trimmed), cut if trimmed != address.strip() else ()


def _is_own(url: str | None) -> bool:
    """Whether the address is private, or is spoken to without TLS: no vendor is."""
    if url is None or "$" in url:
        return False
    parts = urlsplit(url)
    return parts.scheme == "http" or not is_clear_text_to_public_host(f"http://{parts.netloc}")


def _is_hosted(url: str | None) -> bool:
    return urlsplit(url or "").hostname in ("ollama.com", "api.ollama.com")


def _is_known(provider: str) -> bool:
    known = provider in _ALSO_CALLED or provider in _UNREACHABLE or provider in _OWN_ENGINES
    return known or provider in providers.known_providers()


def _guessed(model: str, address: str | None) -> str:
    """The provider of a model without one, by its address or its name. Raises `Mistake`."""
    if model.startswith("os.environ/"):
        raise Mistake("its model comes from the environment", "write it as `provider/model`")
    found = _at(urlsplit(address or "").hostname) or _family(model)
    if found is None:
        hint = "write it as `provider/model`, for a server of your own as `openai/model` with its `api_base`"
        raise Mistake(f"`{model}` names no provider", hint)
    return found


def _family(model: str) -> str | None:
    return next((provider for pattern, provider in _FAMILIAR if pattern.match(model)), None)


def _variable(provider: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", provider.upper())
