"""What each single value of a policy looks like, as a fragment of JSON Schema: the same as its parser, for editors.

Theory of operation
-------------------
Every function that reads a leaf (`units`, `words`, `times`, ...) has an entry here. A fragment takes all that its
function takes, and refuses what has the wrong form; what only a computation finds (a day that ends before it begins, a
zone nobody has heard of) is left to `spillway policy check`. Where the environment may stand in, `variable` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.policy import caps, credentials, discovery_terms, engine_profiles, hosts, patience, times, units, urls, words
from proxy.policy.model import Exhausted, Per

Fragment = dict[str, Any]

VARIABLE: Fragment = {
    "description": "the value of an environment variable: ${NAME}",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
}
_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,9})?"
_DURATION = rf"^\s*{_NUMBER}\s?(ms|s|m|h|d)\s*$"
_WORD = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_DAY = f"({'|'.join(times.DAYS)})"

NAME: Fragment = {
    "description": "letters, digits and . _ : / -",
    "type": "string",
    "pattern": r"^[A-Za-z0-9._:/-]{1,128}$",
    "not": {"enum": sorted(words.RESERVED)},
}
_PLAIN: dict[Callable[[object], Any], Fragment] = {
    credentials.api_key: {
        "description": "the environment variable that holds the key; never the key itself",
        "type": "string",
        "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$",
        "examples": ["${OPENAI_API_KEY}"],
    },
    patience.failovers: {"type": "integer", "minimum": 0, "maximum": 5},
    words.flag: {"type": "boolean"},
    words.refusal_of_training: {"description": "false: only targets that do not train on prompts", "const": False},
    words.parameters: {
        "description": "body members with plain values",
        "type": "object",
        "propertyNames": {"pattern": NAME["pattern"], "not": {"enum": sorted(words.OWN_MEMBERS)}},
        "additionalProperties": {"type": ["string", "number", "boolean"], "not": VARIABLE},
        "examples": [{"inference_geo": "us"}],
    },
}
"""Leaves that no environment variable may stand in for, or nothing else."""

_OPEN: dict[Callable[[object], Any], Fragment] = {
    caps.alert: {
        "description": "a whole percentage of a limit",
        "type": "string",
        "pattern": r"^\s*0*([1-9][0-9]{0,2}|1000)\s?%\s*$",
        "examples": ["80%"],
    },
    caps.cap: {
        "description": "dollars, and the window in which they may be spent; total never ends",
        "type": "string",
        "pattern": rf"^\s*{caps.DOLLARS}\s*/\s*({'|'.join(Per)})\s*$",
        "not": {"pattern": r"^\s*\$?0+(\.0+)?\s*/"},
        "examples": ["$500/day", "$5000/month", "$20000/total"],
    },
    caps.exhausted: {
        "description": "what becomes of requests when a budget is used up",
        "anyOf": [
            {"enum": [Exhausted.DEDICATED_ONLY.value, Exhausted.REJECT.value]},
            {"type": "string", "pattern": r"^downgrade:\s*[A-Za-z0-9._:/-]{1,128}$"},
            {
                "type": "object",
                "properties": {"downgrade": {"anyOf": [NAME, VARIABLE]}},
                "required": ["downgrade"],
                "additionalProperties": False,
            },
        ],
        "examples": ["dedicated_only", "reject", {"downgrade": "small-model"}],
    },
    credentials.key_digest: {
        "description": 'what `printf %s "$KEY" | sha256sum` prints, after sha256:',
        "type": "string",
        "pattern": r"^sha256:[0-9a-fA-F]{64}$",
    },
    discovery_terms.dns_service: {
        "description": "a headless Service and its port; the path of the API may follow",
        "type": "string",
        "pattern": f"^{hosts.NAME}:0*[1-9][0-9]{{0,4}}{discovery_terms.PATH}/?$",
        "examples": ["vllm.inference.svc:8000"],
    },
    discovery_terms.port: {
        "description": "a port, by number or by its name in a Service",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": f"^({discovery_terms.PORT_NAME}|0*[1-9][0-9]{{0,4}})$"},
        ],
        "examples": [8000, "http"],
    },
    discovery_terms.api_path: {
        "description": "the path of an API on its host",
        "type": "string",
        "pattern": f"^{discovery_terms.PATH}/?$",
        "examples": ["/v1"],
    },
    engine_profiles.stated_profile: {
        "description": "an engine profile: size of the model, number format, GPUs of one replica",
        "type": "string",
        "pattern": f"^{engine_profiles.NAME}$",
        "examples": list(engine_profiles.PROFILES),
    },
    hosts.dns_name: {
        "description": "a name in the DNS; a port may follow it",
        "type": "string",
        "pattern": f"^{hosts.HOST}$",
        "examples": ["vllm.inference.svc"],
    },
    hosts.kubernetes_name: {
        "description": "the name of a Service or a namespace",
        "type": "string",
        "pattern": f"^{hosts.LABEL}$",
        "examples": ["vllm"],
    },
    times.days: {
        "description": "a day, or a span of days",
        "type": "string",
        "pattern": f"^{_DAY}(-{_DAY})?$",
        "examples": ["mon-fri", "sat"],
    },
    times.hours: {
        "description": "a span of hours, in quotes; it may run over midnight",
        "type": "string",
        "pattern": r"^[0-2]?[0-9]:[0-5][0-9]\s?-\s?[0-2]?[0-9]:[0-5][0-9]$",
        "examples": ["09:00-18:00", "22:00-06:00"],
    },
    times.zone: {
        "description": "the IANA name of a time zone",
        "type": "string",
        "pattern": r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$",
        "examples": ["Europe/Berlin", "UTC"],
    },
    units.count: {
        "description": "a whole number; k and M stand for thousands and millions",
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": rf"^\s*{_NUMBER}\s?[kKM]?\s*$"},
        ],
        "examples": [64, "2k", "2M"],
    },
    units.duration_s: {
        "description": "a duration with its unit: ms, s, m, h or d",
        "type": "string",
        "pattern": _DURATION,
        "examples": ["800ms", "2s", "5m", "30d"],
    },
    units.step_time_s: {
        "description": "a very short duration with its unit: ns, us, ms or s",
        "type": "string",
        "pattern": rf"^\s*{_NUMBER}\s?(ns|us|ms|s)\s*$",
        "examples": ["16ms", "90us", "1.8ns"],
    },
    units.nano_usd: {
        "description": "dollars, to nine decimals",
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": units.MAX_USD},
            {"type": "string", "pattern": r"^\$?[0-9]{1,15}(\.[0-9]{1,15})?$"},
        ],
        "examples": [1.5, "$0.88"],
    },
    units.share: {
        "description": "a percentage with its sign",
        "type": "string",
        "pattern": rf"^\s*{_NUMBER}\s?%\s*$",
        "examples": ["99.9%"],
    },
    units.tokens_per_s: {
        "description": "tokens a second, without a unit",
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": 100_000},
            {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*$"},
        ],
        "examples": [30],
    },
    patience.wait: {
        "description": "a duration with its unit, of ten minutes at most",
        "type": "string",
        "pattern": _DURATION,
        "examples": ["30s", "2m"],
    },
    urls.hook_url: {
        "description": "a URL that is asked to do something, without a query",
        "type": "string",
        "pattern": "^[hH][tT][tT][pP][sS]?://[^/?#@ ]+(/[^?# ]*)?$",
        "examples": ["https://scaler.example.com/wake/llama"],
    },
    urls.base_url: {
        "description": "the base URL of an API, without a query; it usually ends in /v1",
        "type": "string",
        "pattern": "^[hH][tT][tT][pP][sS]?://[^/?#@ ]+(/[^?# ]*)?$",
        "examples": ["http://vllm.inference.svc:8000/v1", "https://api.example.com/v1"],
    },
    words.name: NAME,
    words.precision: {
        "description": "the number format of the weights",
        "type": "string",
        "pattern": _WORD,
        "examples": ["bf16", "fp8", "int4"],
    },
    words.region: {
        "description": "a region, lower-case",
        "type": "string",
        "pattern": _WORD,
        "examples": ["eu-west-1", "us"],
    },
    words.region_glob: {
        "description": "a region, or a pattern of regions with * and ?",
        "type": "string",
        "pattern": r"^[a-z0-9._*?-]{1,63}$",
        "not": {"const": "unknown"},
        "examples": ["eu-*", "us-east-?"],
    },
    words.retention: {
        "description": "how long prompts are kept",
        "anyOf": [{"enum": ["zero", "unknown"]}, {"type": "string", "pattern": _DURATION}],
        "examples": ["zero", "30d"],
    },
    words.retention_limit: {
        "description": "the longest time for which prompts may be kept",
        "anyOf": [{"const": "zero"}, {"type": "string", "pattern": _DURATION}],
        "examples": ["zero", "30d"],
    },
    words.text: {"type": "string", "pattern": r"^\S(.*\S)?$"},
}

_TITLES: dict[Callable[[object], Any], str] = {
    engine_profiles.stated_profile: "profile_name",
    units.duration_s: "duration",
    units.nano_usd: "dollars",
    units.step_time_s: "step_time",
}


def title_of(parse: Callable[[object], Any]) -> str:
    """The name of the definition of what `parse` takes."""
    if isinstance(parse, words.OneOf):
        return parse.choices.__name__.lower()
    return _TITLES.get(parse) or parse.__name__


def leaf(parse: Callable[[object], Any], variable: Fragment) -> Fragment:
    """What `parse` takes; `variable` is the fragment for a value out of the environment."""
    if isinstance(parse, words.OneOf):
        return {"anyOf": [{"enum": list(parse.known)}, variable]}
    if parse in _PLAIN:
        return dict(_PLAIN[parse])
    fragment = dict(_OPEN[parse])
    whole: Fragment = {key: fragment.pop(key) for key in ("description", "examples") if key in fragment}
    whole["anyOf"] = [fragment, variable]
    return whole
