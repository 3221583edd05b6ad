"""Members that the policy sets in every body sent to a target (`parameters:`), over whatever the caller sent.

Theory of operation
-------------------
They are encoded once per target and put among the undecoded members of a body, so that setting them costs one dict
merge. Where LiteLLM has written the body it is taken apart again on its last step: what LiteLLM makes of a parameter
that it does not know depends on the provider, and a place to be kept to (`inference_geo`) must not depend on that.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.policy.model import Endpoint, Target
from proxy.upstream.base import Call

OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_NEWER = frozenset({"openai", "azure"})

Members = Mapping[str, msgspec.Raw]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def encoded(target: Target) -> dict[str, msgspec.Raw]:
    """The target's parameters as members of a body."""
    return {name: msgspec.Raw(_encode(value)) for name, value in target.parameters.items()}


def bounded(call: Call, target: Target, output_tokens: int) -> Call:
    """The call with the limit to its output that a budget imposes, in the member that the caller used, if any."""
    names = [name for name in OUTPUT_LIMITS if name in call.body] or [_limit_member(call.endpoint, target)]
    limit = msgspec.Raw(b"%d" % output_tokens)
    return msgspec.structs.replace(call, body={**call.body, **dict.fromkeys(names, limit)})


def _limit_member(endpoint: Endpoint, target: Target) -> str:
    if endpoint is Endpoint.RESPONSES:
        return "max_output_tokens"
    # OpenAI's reasoning models refuse the older name; most of those that imitate it do not know the newer one.
    newer = endpoint is Endpoint.CHAT and target.provider in _NEWER
    return "max_completion_tokens" if newer else "max_tokens"


def set_in(body: bytes, parameters: Members) -> bytes:
    """`body`, a JSON object, with the parameters set. Raises `msgspec.MsgspecError` when it is something else."""
    return _encode({**_decode(body), **parameters})
