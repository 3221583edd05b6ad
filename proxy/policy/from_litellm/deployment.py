"""One deployment of a LiteLLM config, as the target that it becomes.

Theory of operation
-------------------
LiteLLM gathers the parameters of a deployment from several places: its own `litellm_params`, keys beside them, a named
credential, and the router's defaults. `Given` looks them up in that order, and settles each key that is read. What
comes out is a `Draft`, whose values are spelled as the policy will have them and have been read by the policy's own
readers, so that what is written compiles. A deployment that cannot become a target raises `Mistake`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from proxy.policy import units, words
from proxy.policy.document import Loc, Place
from proxy.policy.from_litellm.document import Config
from proxy.policy.from_litellm.given import Given, Keys, usd_per_mtok
from proxy.policy.from_litellm.limit import limit_of
from proxy.policy.from_litellm.vendor import REFERENCE, Vendor, split_model, vendor_of
from proxy.policy.model import Endpoint, Lane, Timeouts
from proxy.policy.problem import Mistake

FIRST = 0  # the `order` of a deployment that has none

_MODES = {"embedding": Endpoint.EMBEDDINGS, "completion": Endpoint.COMPLETIONS, "responses": Endpoint.RESPONSES}
_REGIONS = ("aws_region_name", "vertex_location", "vertex_ai_location", "watsonx_region_name", "region_name")
_REGIONS_OF_CLOUDS = {
    "bedrock": "AWS_REGION_NAME",
    "sagemaker": "AWS_REGION_NAME",
    "sagemaker_chat": "AWS_REGION_NAME",
    "vertex_ai": "VERTEXAI_LOCATION",
}
"""Where the request goes depends on the region; LiteLLM takes it from these variables when it is not given."""

_PLACEHOLDERS = frozenset({
    "anything", "dummy", "dummy-key", "empty", "fake", "fake-key", "lm-studio", "local", "n/a", "na", "no-key", "none",
    "not-needed", "not-used", "null", "ollama", "placeholder", "sk-1234", "sk-dummy", "sk-fake", "sk-no-key-required",
    "sk-none", "sk-test", "sk-xxx", "sk-xxxx", "test", "token", "xxx",
})  # fmt: skip
_CHARACTER = ("reasoning_effort", "service_tier", "verbosity")
"""Members that are given to a deployment so that it is another one than without, as in `gpt-5-thinking`."""

_OWNERS = re.compile(r"^((us|eu|apac|global|jp|au)\.)?(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai)\.")
"""What Bedrock writes in front of a model; it makes long names of targets."""

_COSTS = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
_CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_video_input": "video",
    "supports_pdf_input": "files",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A target to be. Equal drafts are the same target; `name`, `place` and `remarks` do not count."""

    lane: Lane
    model: str
    provider: str | None = None
    engine: str | None = None
    urls: tuple[str, ...] = ()
    api_key: str | None = None
    endpoints: tuple[str, ...] = ()
    region: str | None = None
    price: tuple[str, str, str | None] | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    max_in_flight: int | None = None
    context_window: int | None = None
    supports: tuple[str, ...] | None = None
    first_token: str | None = None
    total: str | None = None
    parameters: tuple[tuple[str, str | int | float | bool], ...] = ()
    tags: tuple[str, ...] = ()
    budget: str | None = None
    order: int = field(default=FIRST, compare=False)
    name: str = field(compare=False)
    place: Place = field(compare=False)
    remarks: tuple[str, ...] = field(default=(), compare=False)

    @property
    def limited(self) -> bool:
        """Whether anything is counted for it."""
        limits = (self.rpm, self.tpm, self.concurrency, self.max_in_flight, self.budget)
        return any(limit is not None for limit in limits)


def draft(config: Config, index: int, keys: Keys, captured: str | None = None) -> Draft:
    """The target for deployment `index`; `captured` stands for the `*` of a wildcard. Raises `Mistake`."""
    at: Loc = ("model_list", index)
    given = _given(config, at)
    info = Given(config, (*at, "model_info"))
    _check_served(given, info)
    provider, model = _model(given, captured)
    vendor = vendor_of(provider, model, given.word("api_base") or given.word("base_url"))
    remarks = [f"todo: {message}{'; ' if hint else ''}{hint}" for message, hint in vendor.remarks]
    for message, hint in vendor.remarks:
        config.note((*at, "litellm_params", "model"), message, hint)
    dedicated = vendor.lane is Lane.DEDICATED
    parallel = _parallel(config, given)
    first_token, total = _timeouts(config, given)
    return Draft(
        lane=vendor.lane,
        model=model,
        provider=vendor.provider,
        engine=vendor.engine,
        urls=(vendor.url,) if vendor.url else (),
        api_key=_api_key(given, vendor, keys, provider),
        endpoints=_endpoints(info, vendor),
        region=_region(given, info, vendor),
        price=_price(given, info, vendor.lane),
        rpm=_rate(given, "rpm", vendor.lane),
        tpm=_rate(given, "tpm", vendor.lane),
        concurrency=None if dedicated else parallel,
        max_in_flight=parallel if dedicated else None,
        context_window=info.count("max_input_tokens"),
        supports=_supports(info),
        first_token=first_token,
        total=total,
        parameters=_parameters(given),
        tags=_tags(given),
        budget=None if dedicated else limit_of(given),
        order=given.count("order") or FIRST,
        name=_name(info, vendor, vendor.provider or provider, model),
        place=config.place(at),
        remarks=tuple(remarks),
    )


def _given(config: Config, at: Loc) -> Given:
    credential: Loc = ()
    own = Given(config, (*at, "litellm_params"))
    wanted = own.word("litellm_credential_name")
    credentials = config.get(("credential_list",))
    for index, one in enumerate(credentials if isinstance(credentials, list) else ()):
        if wanted is not None and isinstance(one, dict) and one.get("credential_name") == wanted:
            config.take(("credential_list", index, "credential_name"))
            credential = ("credential_list", index, "credential_values")
    if wanted is not None and not credential:
        own.note("litellm_credential_name", "no such name in `credential_list`", "set the target's `api_key`")
    defaults: Loc = ("router_settings", "default_litellm_params")
    return Given(config, (*at, "litellm_params"), at, *([credential] if credential else []), defaults)


def _check_served(given: Given, info: Given) -> None:
    if given.take("blocked") is True or info.take("blocked") is True:
        raise Mistake("it is blocked", "add it when it may be used")
    if "mock_response" in given:
        raise Mistake("it has a `mock_response`: nothing is called", "`spillway simulate` has providers for tests")
    mode = info.word("mode")
    if mode not in (None, "chat", *_MODES):
        raise Mistake(f"no endpoint for mode `{mode}`", "let its callers reach the provider directly")


def _model(given: Given, captured: str | None) -> tuple[str, str]:
    written = given.word("model")
    if not written:
        raise Mistake("it has no `litellm_params` with a `model`", "LiteLLM would not start either")
    if "*" in written:
        if captured is None:
            raise Mistake("its model is a wildcard", "name the models that callers use: `--model NAME`")
        written = written.replace("*", captured.removeprefix(written.partition("*")[0]))
    provider, model = split_model(written, given.word("custom_llm_provider"), given.word("api_base"))
    for prefix in ("responses/", "chat/"):
        model = model.removeprefix(prefix) if provider == "openai" else model
    if "${" in model:
        raise Mistake("`model` is a template that is not filled in", "import the config that LiteLLM is started with")
    return provider, words.text(model)


def _api_key(given: Given, vendor: Vendor, keys: Keys, provider: str) -> str | None:
    key = given.word("api_key")
    dedicated = vendor.lane is Lane.DEDICATED
    if not key:
        if vendor.url is not None and vendor.key is not None and provider == "openai" != vendor.provider:
            message = (
                f"no `api_key`: LiteLLM sends OPENAI_API_KEY to `{vendor.url}`, the policy has `${{{vendor.key}}}`"
            )
            given.note("model", message, "name the variable with the key of that api")
        return vendor.key
    reference = REFERENCE.fullmatch(key)
    if reference:
        return reference[1]
    if key.startswith("os.environ/"):
        given.note("api_key", "`api_key` names no environment variable", "letters, digits and `_`, nothing else")
        return vendor.key
    if dedicated and key.lower() in _PLACEHOLDERS:
        given.note("api_key", "`api_key` is a placeholder, and is left out", "engines without `--api-key` need none")
        return None
    wanted = vendor.key or re.sub(r"[^A-Z0-9]", "_", provider.upper()) + "_API_KEY"
    name = keys.variable_for(key, wanted)
    hint = f"the policy has `${{{name}}}`: export {name}=..., and revoke the key if others could read the file"
    given.note("api_key", "`api_key` is written in clear, and is not copied", hint)
    return name


def _endpoints(info: Given, vendor: Vendor) -> tuple[str, ...]:
    endpoint = _MODES.get(info.word("mode") or "")
    return (endpoint.value,) if endpoint in vendor.native else ()


def _region(given: Given, info: Given, vendor: Vendor) -> str | None:
    for source, key in (*((given, key) for key in _REGIONS), (info, "region")):
        value = source.word(key)
        if not value:
            continue
        reference = REFERENCE.fullmatch(value)
        try:
            return f"${{{reference[1]}}}" if reference else words.region(value.lower())
        except Mistake as mistake:
            source.note(key, f"`{key}` is not imported: {mistake.message}", mistake.hint)
    variable = _REGIONS_OF_CLOUDS.get(vendor.provider or "")
    return f"${{{variable}}}" if variable else None


def _price(given: Given, info: Given, lane: Lane) -> tuple[str, str, str | None] | None:
    prices: list[str | None] = []
    for key in _COSTS:
        source = given if key in given else info
        value = source.take(key)
        try:
            prices.append(None if value is None else usd_per_mtok(value))
        except Mistake as mistake:
            source.note(key, f"`{key}` is not imported: {mistake.message}", mistake.hint)
            prices.append(None)
        if value is not None and lane is Lane.DEDICATED:
            hint = "your own GPUs are paid by the hour: `gpus: {type: H100, count: 1, usd_per_hour: 2.99}`"
            source.note(key, f"`{key}` of a deployment of your own is not imported", hint)
    if prices[2] and prices[:2] == [None, None]:
        source = given if _COSTS[2] in given else info
        source.note(_COSTS[2], f"`{_COSTS[2]}` alone is no price", "write `price` with `input` and `output` too")
    if lane is Lane.DEDICATED or prices[:2] == [None, None]:
        return None
    if None in prices[:2]:
        present = _COSTS[0] if prices[0] else _COSTS[1]
        source = given if present in given else info
        source.note(present, f"`{present}` stands alone: the other price is 0, as LiteLLM has it", "check `price`")
    return prices[0] or "0", prices[1] or "0", prices[2]


def _parallel(config: Config, given: Given) -> int | None:
    """LiteLLM's default counts only where the deployment has no limit of any kind."""
    if any(key in given for key in ("max_parallel_requests", "rpm", "tpm")):
        return given.count("max_parallel_requests")
    return Given(config, ("router_settings",)).count("default_max_parallel_requests")


def _rate(given: Given, key: str, lane: Lane) -> int | None:
    if lane is Lane.SHARED or key not in given:
        return given.count(key)
    hint = "what your own GPUs can take is learned, or capped by `max_in_flight`; callers are limited by `tenants`"
    given.note(key, f"`{key}` of a deployment of your own is not imported", hint)
    return None


def _timeouts(config: Config, given: Given) -> tuple[str | None, str | None]:
    """(first token, total). LiteLLM's timeout ends no stream that flows; ours is raised where it would be shorter."""
    router, library = Given(config, ("router_settings",)), Given(config, ("litellm_settings",))
    sources = ((given, "timeout"), (router, "timeout"), (library, "request_timeout"))
    source, key = next(((one, key) for one, key in sources if key in one), sources[0])
    whole = source.duration(key)
    streamed = given.duration("stream_timeout") or router.duration("stream_timeout")
    if whole is None:
        return streamed, None
    if units.duration_s(whole) >= Timeouts().total_s:
        return streamed or whole, whole if units.duration_s(whole) > Timeouts().total_s else None
    hint = f"LiteLLM's ends no stream that flows; `total: {whole}` beside `first_token` would: add it if that is wanted"
    source.note(key, f"`{key}` bounds the wait for a stream's first token, not the whole answer", hint)
    return streamed or whole, None


def _supports(info: Given) -> tuple[str, ...] | None:
    """What the model can take: a claim is exhaustive, so it is made only where tools and vision are both settled."""
    flags = {key: info.take(key) for key in _CAPABILITIES if key in info}
    if isinstance(flags.get("supports_function_calling"), bool) and isinstance(flags.get("supports_vision"), bool):
        return tuple(_CAPABILITIES[key] for key in flags if flags[key] is True)
    for key in flags:
        hint = "`supports: [tools, vision]` on the target lists all that it can take; what is not listed is gated off"
        info.note(key, f"`{key}` alone is no complete claim, and is not imported", hint)
    return None


def _parameters(given: Given) -> tuple[tuple[str, str | int | float | bool], ...]:
    """The plain members of `extra_body`, which LiteLLM puts into every request, and what makes a model another."""
    members = given.take("extra_body")
    taken: list[tuple[str, str | int | float | bool]] = []
    if members is not None and not isinstance(members, dict):
        given.note("extra_body", "`extra_body` is not imported: expected a mapping", "")
    for name, value in members.items() if isinstance(members, dict) else ():
        try:
            if isinstance(value, str) and ("${" in value or value.startswith("os.environ/") or not value.isprintable()):
                raise Mistake("not a plain value", "write a word, a number, true or false")
            taken += words.parameters({name: value}).items()
        except Mistake as mistake:
            given.note("extra_body", f"`{name}` of `extra_body` is not imported: {mistake.message}", mistake.hint)
    for name in _CHARACTER:
        value = given.word(name)
        if value and re.fullmatch(r"[a-z][a-z_-]*", value) and name not in dict(taken):
            taken.append((name, value))
            hint = "LiteLLM let callers change it; remove it from the target's `parameters` if they should"
            given.note(name, f"`{name}` is set on every request to the target", hint)
        elif value:
            given.note(name, f"`{name}` is not imported", "callers send it themselves")
    return tuple(taken)


def _tags(given: Given) -> tuple[str, ...]:
    tags = given.take("tags")
    try:
        if tags is not None and not isinstance(tags, list):
            raise Mistake("expected a list", "LiteLLM takes a list too")
        return tuple(dict.fromkeys(map(words.name, tags or ())))
    except Mistake as mistake:
        given.note("tags", f"`tags` are not imported: {mistake.message}", mistake.hint)
        return ()


def _name(info: Given, vendor: Vendor, provider: str, model: str) -> str:
    given = info.word("id")
    try:
        if given and not given.isdigit() and len(given) <= 48:
            return words.name(given)
    except Mistake:
        pass
    if given:
        info.note("id", "`id` makes no good name for a target", "it is named for its provider and model")
    owner = vendor.engine.value if vendor.engine is not None else provider
    last = _OWNERS.sub("", model.rstrip("/").rpartition("/")[2] or "model")
    name = last if last.lower().startswith(owner) else f"{owner}-{last}"
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-")[:100]
