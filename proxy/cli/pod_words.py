"""How it stands with the pods of a target, in a few words: nothing where all is well."""

from __future__ import annotations

from proxy.live.view import FoundView


def pod_words(found: FoundView | None) -> str:
    """What is wrong with a target's pods, or with whoever lists them."""
    if found is None:
        return ""
    counted = [f"{found.unready} not ready"] if found.unready else []
    counted += [f"{found.terminating} leaving"] if found.terminating else []
    said = [*([", ".join(counted)] if counted else []), *([found.trouble] if found.trouble else [])]
    if not found.up and not found.trouble:
        said.append("whoever lists its pods has not answered yet")
    return "; ".join(said)
