"""From headers and body to what the router and the upstreams need: `Facts` and a `Call`.

Theory of operation
-------------------
Pure. The body's members stay bytes; only the few that decide something are read, and the prompt only where the policy
asks what it holds, or where encoded media would make nonsense of the count of tokens. Request headers reach an upstream
by allow-list: never cookies, credentials, forwarding headers or anything that an engine would take as a command. Of the
trace that a request belongs to, some upstreams are told and some are not (`upstream/traced.py`).

The input is estimated at four bytes a token over the whole body, encoded media left out and counted at flat figures
(`content.py`). Where the policy asks for it, more of anything never makes the estimate smaller; where it does not, only
media that fill kilobytes are looked for.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container

import msgspec

from proxy.api.content import TEXT_ONLY, Content, UnreadableContent, read_content
from proxy.api.geography import WATCHED, check_members
from proxy.api.prefix import BLOCK_BYTES, read_prefix
from proxy.api.wishes import NO_WISHES, makes_wishes, read_wishes
from proxy.policy.model import Endpoint, Key
from proxy.routing.cost import tier_of
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.routing.trace_context import TraceContext
from proxy.upstream.base import Call, RawHeaders
from proxy.upstream.parameters import OUTPUT_LIMITS

BYTES_PER_TOKEN = 4
"""A prompt's tokens before anybody has counted them: byte-level BPE averages about four bytes of English."""

Members = dict[str, msgspec.Raw]

_FORWARDED = (b"user-agent", b"openai-beta", b"anthropic-version", b"anthropic-beta")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/-]{1,128}")
_ANTHROPIC = (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)
_decode_str = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_STRETCH = 1024
_SMALL_BYTES = 4096
"""A body in which no picture fits that is worth leaving out of the estimate."""
_COUNTS_OF_CHOICES = ("n", "best_of")
_DIGITS = 6
"""Of a number of choices: what is longer is cut, and is still more than any provider grants."""

_SESSION_CHARACTERS = 128

_process = os.urandom(8).hex()
_numbers = itertools.count()


def request_id(fields: dict[bytes, bytes]) -> str:
    """The caller's own `x-request-id` if it is harmless to repeat, else one that no other process will give."""
    given = fields.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{_process}{next(_numbers):08x}"


def read_facts(
    key: Key,
    endpoint: Endpoint,
    request_id: str,
    fields: dict[bytes, bytes],
    members: Members,
    body: bytes,
    *,
    at_s: float,
    reads_content: bool = True,
    cached_models: Container[str] = (),
    trace: TraceContext | None = None,
) -> Facts | Refusal:
    """What may be decided on, of a request that arrived at Unix time `at_s`.

    `reads_content` says that the policy asks what prompts hold or how long they are; else a text is not looked into.
    `cached_models` are those whose prompts may be in an engine's cache, which it pays to know the beginning of.
    """
    try:
        model = _decode_str(members["model"])
    except (KeyError, msgspec.MsgspecError):
        return _refuse("you must provide a model parameter", "model", "missing_model")
    stream = bytes(members["stream"]) if "stream" in members else b""
    if stream not in (b"", b"true", b"false", b"null"):
        return _refuse("`stream` must be true or false", "stream")
    if not WATCHED.isdisjoint(members) and (elsewhere := check_members(members)) is not None:
        return elsewhere
    wishes = read_wishes(key.tenant, fields) if makes_wishes(fields) else NO_WISHES
    if isinstance(wishes, Refusal):
        return wishes
    content = TEXT_ONLY
    if reads_content or (len(body) > _SMALL_BYTES and _may_hold_media(body)):
        try:
            content = read_content(members)
        except UnreadableContent as error:
            return _refuse(f"`{error.name}` cannot be read", error.name)
    return Facts(
        request_id=request_id,
        tenant=key.tenant,
        model=model,
        endpoint=endpoint,
        stream=stream == b"true",
        traffic=wishes.traffic,
        priority=key.tenant.priority if wishes.priority is None else wishes.priority,
        input_tokens=len(body) // BYTES_PER_TOKEN if content is TEXT_ONLY else _input_tokens(body, content),
        max_output_tokens=_output_limit(members),
        tags=key.tags | wishes.tags if wishes.tags else key.tags,
        lane_override=wishes.lane,
        session=wishes.session or (_session(members) if "prompt_cache_key" in members else None),
        target_override=wishes.target,
        key=key,
        modalities=content.modalities,
        tools=("tools" in members and _is_filled(members["tools"]))
        or ("functions" in members and _is_filled(members["functions"])),
        at_s=at_s,
        choices=_choices(endpoint, members),
        service_tier=_service_tier(members["service_tier"]) if "service_tier" in members else "",
        prefix=read_prefix(endpoint, model, members)
        if len(body) > BLOCK_BYTES and model in cached_models and not content.encoded_bytes
        else (),
        trace=trace,
    )


def read_call(facts: Facts, fields: dict[bytes, bytes], members: Members) -> Call | Refusal:
    """The request, ready for any upstream."""
    usage_wanted = False
    options = members.get("stream_options")
    if options is not None and bytes(options) != b"null":
        try:
            usage_wanted = bytes(_decode_options(options).get("include_usage", b"")) == b"true"
        except msgspec.MsgspecError:
            return _refuse("`stream_options` must be an object", "stream_options")
    headers: RawHeaders = [(name, fields[name]) for name in _FORWARDED if name in fields]
    headers.append((b"x-request-id", facts.request_id.encode()))
    if facts.endpoint in _ANTHROPIC and b"anthropic-version" not in fields:
        headers.append((b"anthropic-version", b"2023-06-01"))
    return Call(
        request_id=facts.request_id,
        endpoint=facts.endpoint,
        body=members,
        headers=headers,
        stream=facts.stream,
        usage_wanted=usage_wanted,
        trace=facts.trace,
    )


def _input_tokens(body: bytes, content: Content) -> int:
    # PHP writes the slashes of base64 with a backslash before each.
    escapes = body.count(b"\\/") if content.encoded_bytes else 0
    return max(0, len(body) - content.encoded_bytes - escapes) // BYTES_PER_TOKEN + content.media_tokens


def _may_hold_media(body: bytes) -> bool:
    """Whether a kilobyte goes by without a blank, which text seldom does and encoded media always do."""
    starts = range(0, len(body) - _STRETCH + 1, _STRETCH)
    return any(body.find(b" ", start, start + _STRETCH) < 0 for start in starts)


def _is_filled(raw: msgspec.Raw) -> bool:
    """Whether a member is a list, or whatever else somebody may take for one, with something in it."""
    text = bytes(raw)
    return text != b"null" and text[1:-1].strip() != b""


def _output_limit(members: Members) -> int | None:
    for name in OUTPUT_LIMITS:
        if name in members and (text := bytes(members[name])).isdigit():
            return int(text[:18])
    return None


def _choices(endpoint: Endpoint, members: Members) -> int:
    """How many answers are generated: `n` or `best_of` of them, for each of the prompts of a completion."""
    choices = 1
    for name in _COUNTS_OF_CHOICES:
        if name in members and (text := bytes(members[name])).isdigit():
            choices = max(choices, int(text[:_DIGITS]))
    if endpoint is Endpoint.COMPLETIONS and "prompt" in members:
        choices *= _prompts(members["prompt"])
    return choices


def _prompts(prompt: msgspec.Raw) -> int:
    """A text, or the numbers of its tokens, is one prompt; a list of either is as many."""
    if not bytes(prompt).startswith(b"["):
        return 1
    try:
        listed = _decode_list(prompt)
    except msgspec.MsgspecError:
        return 1
    return len(listed) if listed and bytes(listed[0])[:1] in (b'"', b"[") else 1


def _session(members: Members) -> str | None:
    """What OpenAI's callers name a conversation by, so that it goes where its beginning is cached."""
    try:
        name = _decode_str(members["prompt_cache_key"])
    except msgspec.MsgspecError:
        return None
    return name if 0 < len(name) <= _SESSION_CHARACTERS else None


def _service_tier(raw: msgspec.Raw) -> str:
    try:
        return tier_of(_decode_str(raw))
    except msgspec.MsgspecError:
        return ""


def _refuse(message: str, param: str, code: str = "invalid_request") -> Refusal:
    return Refusal(status=400, code=code, message=message, rule="request", param=param, retryable=False)
