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

from proxy.policy.model import Target

Members = Mapping[str, msgspec.Raw]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def encoded(target: Target) -> dict[str, msgspec.Raw]:
    """The target's parameters as members of a body."""
    return {name: msgspec.Raw(_encode(value)) for name, value in target.parameters.items()}


def set_in(body: bytes, parameters: Members) -> bytes:
    """`body`, a JSON object, with the parameters set. Raises `msgspec.MsgspecError` when it is something else."""
    return _encode({**_decode(body), **parameters})
