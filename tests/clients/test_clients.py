"""The same unchanged script, run straight against vLLM and through the proxy, must print the same results."""

from typing import Any

import pytest

from tests.clients.libraries import LIBRARIES, Library
from tests.clients.results import parsed, run
from tests.engine import spillway as proxies
from tests.engine import vllm
from tests.engine.replies import differences, normalised
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

ANSWERED_BY_THE_PROXY = {"error_unknown_model", "error_wrong_key"}
"""These requests never reach the engine: status and error class must be the same, the words may be the proxy's own."""


def straight(library: Library, engine: Engine) -> dict[str, str]:
    if library.speaks == "anthropic":
        return {"ANTHROPIC_BASE_URL": engine.root, "ANTHROPIC_AUTH_TOKEN": vllm.KEY}
    return {"OPENAI_BASE_URL": engine.url, "OPENAI_API_KEY": vllm.KEY}


def through(library: Library, spillway: Spillway) -> dict[str, str]:
    if library.speaks == "anthropic":
        return {"ANTHROPIC_BASE_URL": spillway.root, "ANTHROPIC_API_KEY": proxies.KEY}
    return {"OPENAI_BASE_URL": spillway.url, "OPENAI_API_KEY": proxies.KEY}


FINGERPRINT_IN_LAST_CHUNK_ONLY = {"chat_stream_twice"}
"""With usage included vLLM moves `system_fingerprint` from each choice's last chunk to the usage chunk. The proxy,
which includes it unasked, puts the field back where a stream of one choice has it; with several, only into the last."""


def comparable(case: str, result: Any) -> Any:
    result = normalised(result)
    if case in FINGERPRINT_IN_LAST_CHUNK_ONLY:
        return [{key: chunk[key] for key in chunk if key != "system_fingerprint"} for chunk in result]
    if case in ANSWERED_BY_THE_PROXY:
        return {key: result[key] for key in ("class", "status", "content_type") if key in result}
    return result


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_library_reads_the_same_through_the_proxy(library: Library, engine: Engine, spillway: Spillway) -> None:
    command = library.command()
    expected = parsed(run(command, straight(library, engine)))
    seen = parsed(run(command, through(library, spillway)))
    assert seen.keys() == expected.keys()
    different = [
        line
        for case in expected
        for line in differences(comparable(case, expected[case]), comparable(case, seen[case]), case)
    ]
    assert not different, "\n".join(["", *different])
