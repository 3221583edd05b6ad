"""Everything that can be found in a policy, by the name that stays the same when the words are bettered."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs: an `error` is not served, a `warning` may be a mistake, an `advice` is none."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


class Check(StrEnum):
    """What was looked for. The value is the name in reports; `severity` and `about` say the rest."""

    severity: Severity
    about: str

    def __new__(cls, name: str, severity: Severity = Severity.ERROR, about: str = "") -> Check:
        """A member: its name in reports, its weight, and what it finds, in a clause."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.severity = severity
        member.about = about
        return member

    UNREADABLE_FILE = "unreadable-file", Severity.ERROR, "a file cannot be read, is too large, or is not UTF-8"
    SYNTAX = "syntax", Severity.ERROR, "text that is not YAML, or YAML that a policy does not take (anchors, tags)"
    DUPLICATE = "duplicate", Severity.ERROR, "the same key, name, target or replica twice"
    UNKNOWN_KEY = "unknown-key", Severity.ERROR, "a key that does not exist"
    MISSING_KEY = "missing-key", Severity.ERROR, "a key or a section that must be there is not"
    INVALID_VALUE = "invalid-value", Severity.ERROR, "a value of the wrong kind, without its unit, or out of range"
    UNKNOWN_NAME = "unknown-name", Severity.ERROR, "a target, model, tenant, key or provider that nobody defined"
    CONTRADICTION = "contradiction", Severity.ERROR, "keys that do not go together"
    VARIABLE = "variable", Severity.ERROR, "an environment variable that is not set, or not spelled `${NAME}`"
    SECRET_IN_CLEAR = "secret-in-clear", Severity.ERROR, "a key, where the variable or the digest of one belongs"
    CLEAR_TEXT = "clear-text", Severity.ERROR, "prompts and a key that would go over http to a public host"
    UNREACHABLE_ROUTE = "unreachable-route", Severity.ERROR, "earlier routes, one or together, take all its requests"
    NO_CATCH_ALL = "no-catch-all", Severity.ERROR, "the last route does not match every request"
    NO_LAWFUL_TARGET = "no-lawful-target", Severity.ERROR, "no target passes a route's gates: it could only refuse"

    CLEAR_TEXT_KEY = "clear-text-key", Severity.WARNING, "the key of your own engine goes over http to a public host"
    LOOKS_LIKE_SECRET = "looks-like-secret", Severity.WARNING, "text in the policy that may be a key"
    UNMETERED_GPUS = "unmetered-gpus", Severity.WARNING, "a dedicated target without `gpus`"
    UNUSED_GPUS = "unused-gpus", Severity.WARNING, "more replicas reserved than the target has"
    ODD_PRICE = "odd-price", Severity.WARNING, "a price that is on the wrong side of another"
    UNKNOWN_PRICE = "unknown-price", Severity.WARNING, "a shared target whose price nobody knows"
    PRICE_NEEDED = "price-needed", Severity.WARNING, "the same, and a required price bars it from a route"
    UNPRICED_BUDGET = "unpriced-budget", Severity.WARNING, "the same, and a hard budget, which cannot count it, bars it"
    REFUSED_MODEL = "refused-model", Severity.WARNING, "a route takes a model, and has no lawful target for it"
    UNKNOWN_TAG = "unknown-tag", Severity.WARNING, "a route or a budget matches a tag that nobody has or may bring"
    UNUSED_TARGET = "unused-target", Severity.WARNING, "no model lists it, or no route would ever use it"
    UNUSED_MODEL = "unused-model", Severity.WARNING, "no tenant may ask for it"
    MATCHES_NOTHING = "matches-nothing", Severity.WARNING, "one of several words or globs of a gate that fits no target"
    NOTHING_SUPPORTS = (
        "nothing-supports",
        Severity.WARNING,
        "a route takes requests (an endpoint, tools, images, long prompts) that none of its targets can answer",
    )
    SHADOW_REFUSES_ALL = "shadow-refuses-all", Severity.WARNING, "a gate in shadow that no target would pass"
    IMPOSSIBLE_WANT = "impossible-want", Severity.WARNING, "a wish that no lawful target can keep"
    POINTLESS_RULE = "pointless-rule", Severity.WARNING, "a rule that a tighter one beside it makes idle"
    IDLE_KEY = "idle-key", Severity.WARNING, "a key of a route that can change nothing there: `hedge`, `deadline`"
    TIMEOUT_UNDER_OBJECTIVE = (
        "timeout-under-objective",
        Severity.WARNING,
        "a target is given up before a route's objective is over",
    )
    OBJECTIVE_TOO_TIGHT = "objective-too-tight", Severity.WARNING, "no target can be, or was ever seen, so fast"
    UNSERVABLE_TENANT = "unservable-tenant", Severity.WARNING, "a tenant, or a model of its own, that is always refused"
    LIMIT_OUT_OF_REACH = "limit-out-of-reach", Severity.WARNING, "a limit above what can ever get that far"
    UNMET_BUDGET = "unmet-budget", Severity.WARNING, "a budget that no request can come under"
    NO_WAY_OUT = (
        "no-way-out",
        Severity.WARNING,
        "a spent budget leaves what it does not pay for: nothing",
    )
    IDLE_DOWNGRADE = "idle-downgrade", Severity.WARNING, "a spent budget has another model served, which cannot be"
    UNNAMED_KEYS = "unnamed-keys", Severity.WARNING, "a budget for each key, and keys without a name have none"

    UNKNOWN_REGION = "unknown-region", Severity.ADVICE, "a shared target without a region, where routes ask for one"
    CHUNK_SIZE = "chunk-size", Severity.ADVICE, "the engine's step that fits a route's ITL objective"
