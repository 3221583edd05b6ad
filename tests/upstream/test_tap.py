"""A stream as the tap sees it: what passes, what it learns, and when a stream is complete."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint
from proxy.routing.outcome import Usage
from proxy.upstream.sse import Splitter
from proxy.upstream.tap import Tap

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    Endpoint.CHAT,
    Endpoint.COMPLETIONS,
    Endpoint.RESPONSES,
    Endpoint.MESSAGES,
)
DONE = b"data: [DONE]\n\n"
HEAD = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795352058,"model":"tiny",'
MARK = '"system_fingerprint":"vllm-0.32.0-23337d8c"'


def chunk(choices: str, more: str = "") -> bytes:
    """A chat chunk as vLLM writes it."""
    return f'data: {{{HEAD}"choices":[{choices}]{more}}}\n\n'.encode()


def choice(delta: str, finish: str = "null", index: int = 0) -> str:
    return f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish},"token_ids":null}}'


def named(name: str, **body: Any) -> bytes:
    """An event of the protocols that name them."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **body}, separators=(',', ':'))}\n\n".encode()


ROLE = chunk(choice('{"role":"assistant","content":""}'))
FIRST = chunk(choice('{"content":" options"}'))
SECOND = chunk(choice('{"content":"ome"}'))
LAST = chunk(choice('{"content":"!"}', '"length"'))
COUNTS = ',"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}'
USAGE = chunk("", f"{COUNTS},{MARK}")
MARKED_LAST = LAST.replace(b"}\n\n", f",{MARK}}}\n\n".encode())
VLLM_CHAT = [ROLE, FIRST, SECOND, LAST, USAGE, DONE]

VLLM_RESPONSES = [
    named("response.created", response={"status": "in_progress", "usage": None}),
    named("response.in_progress", response={"status": "in_progress", "usage": None}),
    named("response.output_item.added", item={"content": []}),
    named("response.content_part.added", part={"text": ""}),
    named("response.output_text.delta", delta=" options", logprobs=[]),
    named("response.output_text.done", text=" options"),
    named("response.completed", response={"error": None, "usage": {"input_tokens": 6, "output_tokens": 3}}),
]
VLLM_MESSAGES = [
    named("message_start", message={"content": [], "usage": {"input_tokens": 7, "output_tokens": 0}}),
    named("content_block_start", content_block={"type": "text", "text": ""}, index=0),
    named("content_block_delta", delta={"type": "text_delta", "text": " options"}, index=0),
    named("content_block_stop", index=0),
    named("message_delta", delta={"stop_reason": "max_tokens"}, usage={"input_tokens": 7, "output_tokens": 3}),
    named("message_stop"),
]
VLLM_COMPLETIONS = [
    (
        b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":" a",'
        b'"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}\n\n'
    ),
    (
        b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"lo",'
        b'"logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}\n\n'
    ),
    (
        b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"tiny","choices":[],"usage":'
        b'{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2},"system_fingerprint":"vllm-0.32.0-23337d8c"}\n\n'
    ),
    DONE,
]
STREAMS = {CHAT: VLLM_CHAT, COMPLETIONS: VLLM_COMPLETIONS, RESPONSES: VLLM_RESPONSES, MESSAGES: VLLM_MESSAGES}
FIRST_CONTENT = {CHAT: 1, COMPLETIONS: 0, RESPONSES: 4, MESSAGES: 2}
USED = {CHAT: (7, 3), COMPLETIONS: (3, 2), RESPONSES: (6, 3), MESSAGES: (7, 3)}


def play(tap: Tap, blocks: list[bytes]) -> bytes:
    """What the client gets of a stream that the upstream then closes, completed if it is complete."""
    passed = b"".join([tap.feed(block) for block in blocks])
    return passed + tap.flush() if tap.close() else passed


@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_whole_stream_passes_to_the_byte(endpoint: Endpoint) -> None:
    tap = Tap(endpoint, usage_wanted=True)
    assert play(tap, STREAMS[endpoint]) == b"".join(STREAMS[endpoint])
    assert tap.close()
    assert tap.usage == Usage(input_tokens=USED[endpoint][0], output_tokens=USED[endpoint][1])
    assert tap.chunks == len(STREAMS[endpoint])


@pytest.mark.parametrize("endpoint", STREAMS)
def test_content_begins_where_the_protocol_says(endpoint: Endpoint) -> None:
    tap = Tap(endpoint, usage_wanted=False)
    seen = []
    for block in STREAMS[endpoint]:
        tap.feed(block)
        seen.append(tap.content)
    assert seen.index(True) == FIRST_CONTENT[endpoint]
    assert all(seen[FIRST_CONTENT[endpoint] :])


@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_stream_is_complete_exactly_when_its_protocol_says_so(endpoint: Endpoint) -> None:
    blocks = STREAMS[endpoint]
    ends = {CHAT: 4, COMPLETIONS: 2, RESPONSES: 7, MESSAGES: 6}[endpoint]
    for length in range(len(blocks) + 1):
        tap = Tap(endpoint, usage_wanted=True)
        play(tap, blocks[:length])
        assert tap.close() is (length >= ends), length


@given(
    endpoint=st.sampled_from([*STREAMS]),
    wanted=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    crlf=st.booleans(),
)
def test_what_is_learnt_does_not_depend_on_the_chunking(
    endpoint: Endpoint, wanted: bool, cuts: list[int], crlf: bool
) -> None:
    wire = b"".join(STREAMS[endpoint])
    wire = wire.replace(b"\n", b"\r\n") if crlf else wire
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    splitter, tap = Splitter(), Tap(endpoint, usage_wanted=wanted)
    reads = [wire[start:end] for start, end in pairwise(places)]
    passed = play(tap, [*map(splitter.feed, reads), splitter.finish()])
    whole = Tap(endpoint, usage_wanted=wanted)
    assert [*_data(passed)] == [*_data(play(whole, STREAMS[endpoint]))]
    assert (tap.usage, tap.finished, tap.done, tap.chunks) == (whole.usage, True, whole.done, whole.chunks)


def _data(wire: bytes) -> list[bytes]:
    return [line for line in wire.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]


# usage: forced, stripped, wanted


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one read"])
def test_forced_usage_is_stripped_and_the_fingerprint_put_back(together: bool) -> None:
    tap = Tap(CHAT, usage_wanted=False)
    blocks = [ROLE, FIRST, SECOND, LAST + USAGE + DONE] if together else VLLM_CHAT
    assert play(tap, blocks) == ROLE + FIRST + SECOND + MARKED_LAST + DONE
    assert tap.usage == Usage(input_tokens=7, output_tokens=3)


def test_a_fingerprint_that_is_there_already_is_not_doubled() -> None:
    tap = Tap(CHAT, usage_wanted=False)
    assert play(tap, [ROLE, FIRST, MARKED_LAST, USAGE, DONE]) == ROLE + FIRST + MARKED_LAST + DONE


def test_a_fingerprint_goes_into_the_object_even_before_trailing_blanks() -> None:
    tap = Tap(CHAT, usage_wanted=False)
    passed = play(tap, [FIRST, LAST.replace(b"}\n\n", b"} \n\n"), USAGE, DONE])
    assert json.loads(_data(passed)[-2][6:])["system_fingerprint"] == "vllm-0.32.0-23337d8c"


def test_every_choices_finish_reason_passes_once_and_in_order() -> None:
    one, two = chunk(choice("{}", '"stop"')), chunk(choice("{}", '"length"', 1))
    late = chunk(choice('{"content":"x"}', index=1))
    for wanted in (False, True):
        tap = Tap(CHAT, usage_wanted=wanted)
        passed = play(tap, [ROLE, FIRST, one, late, two, USAGE, DONE])
        finishes = [json.loads(line[6:]) for line in _data(passed) if b"finish_reason" in line]
        assert [body["choices"][0]["index"] for body in finishes] == [0, 0, 0, 1, 1]
        assert _data(passed)[-1] == b"data: [DONE]"


def test_openais_null_usage_in_every_chunk_is_no_usage() -> None:
    nulls = [block.replace(b"]}\n\n", b'],"usage":null}\n\n') for block in (ROLE, FIRST, SECOND, LAST)]
    tap = Tap(CHAT, usage_wanted=True)
    assert play(tap, [*nulls, USAGE, DONE]) == b"".join(nulls) + USAGE + DONE
    assert tap.usage == Usage(input_tokens=7, output_tokens=3)


def test_azures_first_chunk_has_no_choices_and_is_not_the_usage_chunk() -> None:
    azure = chunk("", ',"prompt_filter_results":[{"prompt_index":0}],"usage":null')
    tap = Tap(CHAT, usage_wanted=False)
    assert play(tap, [azure, ROLE, FIRST, LAST, USAGE, DONE]).startswith(azure + ROLE)


def test_continuous_usage_passes_and_the_greatest_counts() -> None:
    def counted(block: bytes, out: int) -> bytes:
        usage = f',"usage":{{"prompt_tokens":7,"total_tokens":{7 + out},"completion_tokens":{out}}}}}\n\n'
        return block.removesuffix(b"}\n\n") + usage.encode()

    blocks = [counted(ROLE, 0), counted(FIRST, 1), counted(SECOND, 2), counted(LAST, 3), USAGE, DONE]
    tap = Tap(CHAT, usage_wanted=True)
    assert play(tap, blocks) == b"".join(blocks)
    assert tap.usage == Usage(input_tokens=7, output_tokens=3)


def test_usage_in_the_last_choice_stays_there() -> None:
    """DeepSeek and Mistral put it into the chunk with the finish reason."""
    last = LAST.replace(b"]}\n\n", f"]{COUNTS}}}\n\n".encode())
    tap = Tap(CHAT, usage_wanted=False)
    assert play(tap, [ROLE, FIRST, last, DONE]) == ROLE + FIRST + last + DONE
    assert tap.usage == Usage(input_tokens=7, output_tokens=3)


# the end


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("spaced", [False, True], ids=["compact", "spaced"])
@pytest.mark.parametrize("usage", [[], [USAGE]], ids=["no usage", "usage"])
def test_a_done_that_the_upstream_forgot_is_added_and_nothing_is_repeated(
    wanted: bool, spaced: bool, usage: list[bytes]
) -> None:
    last = LAST.replace(b'"finish_reason":', b'"finish_reason": ') if spaced else LAST
    tap = Tap(CHAT, usage_wanted=wanted)
    passed = play(tap, [ROLE, FIRST, last, *usage])
    assert passed.endswith(DONE)
    assert passed.count(b'"!"') == 1
    assert passed.count(b"[DONE]") == 1


@pytest.mark.parametrize("wanted", [False, True])
def test_a_stream_of_one_event_gets_one_done(wanted: bool) -> None:
    tap = Tap(CHAT, usage_wanted=wanted)
    assert play(tap, [LAST, DONE]).count(b"[DONE]") == 1
    tap = Tap(CHAT, usage_wanted=wanted)
    assert play(tap, [LAST + DONE]).count(b"[DONE]") == 1


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("rest", [DONE, FIRST, b": bye\n\n", b"\n\n"])
def test_nothing_follows_done(wanted: bool, rest: bytes) -> None:
    for blocks in ([ROLE, FIRST, LAST, DONE, rest], [ROLE, FIRST, LAST, DONE + DONE, rest]):
        tap = Tap(CHAT, usage_wanted=wanted)
        assert play(tap, blocks) == ROLE + FIRST + LAST + DONE
        assert tap.close()


@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES])
def test_done_ends_no_protocol_that_has_none(endpoint: Endpoint) -> None:
    tap = Tap(endpoint, usage_wanted=False)
    play(tap, [*STREAMS[endpoint][:-1], DONE])
    assert not tap.close()


@pytest.mark.parametrize("endpoint", STREAMS)
@pytest.mark.parametrize("comment", [b": OPENROUTER PROCESSING\n\n", b": data: [DONE]\n\n", b"\n\n", b"\n: x\n\n"])
def test_comments_and_blank_lines_change_nothing_that_is_learnt(endpoint: Endpoint, comment: bytes) -> None:
    for wanted in (False, True):
        apart, joined = (Tap(endpoint, usage_wanted=wanted) for _ in range(2))
        play(apart, [piece for block in STREAMS[endpoint] for piece in (comment, block, comment)])
        play(joined, [comment + block for block in STREAMS[endpoint]])
        for tap in (apart, joined):
            assert tap.close()
            assert tap.usage is not None
    tap = Tap(endpoint, usage_wanted=False)
    assert tap.feed(comment) == comment
    assert not tap.content


def test_events_of_several_data_lines_survive_being_written_anew() -> None:
    pretty = json.dumps(json.loads(LAST[6:]), indent=1).replace("\n", "\ndata: ")
    tap = Tap(CHAT, usage_wanted=False)
    passed = play(tap, [ROLE, FIRST, f"data: {pretty}\n\n".encode() + USAGE + DONE])
    assert "".join(line[6:].decode() for line in _data(passed)[2:-1]).count('"length"') == 1
    assert b"\n " not in passed


# errors

ERRORS = {
    "vllm, first event of a full engine": (
        CHAT,
        (
            b'data: {"error": {"message": "The engine is currently busy", "type": "Service Unavailable", '
            b'"param": null, "code": 503}}\n\n'
        ),
        "The engine is currently busy",
    ),
    "vllm, old": (CHAT, b'data: {"object":"error","message":"cuda out of memory","code":500}\n\n', "cuda"),
    "openai": (CHAT, b'data: {"error":{"message":"oh","type":"server_error","param":null,"code":null}}\n\n', "oh"),
    "tgi": (CHAT, b'data: {"error":"Input validation error","error_type":"validation"}\n\n', "Input validation"),
    "anthropic": (
        MESSAGES,
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
        "Overloaded",
    ),
    "responses": (
        RESPONSES,
        named("error", code="ERR", message="went wrong", param=None, sequence_number=1),
        "went wrong",
    ),
    "response.failed": (
        RESPONSES,
        named("response.failed", response={"status": "failed", "error": {"code": "server_error", "message": "gone"}}),
        "gone",
    ),
    "response.failed, mute": (RESPONSES, named("response.failed", response={"error": None}), "the response failed"),
    "response.failed, odd": (RESPONSES, named("response.failed", response="x"), "the response failed"),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("before", [0, 4])
def test_an_error_event_is_taken_out_with_all_that_follows(name: str, before: int) -> None:
    endpoint, error, message = ERRORS[name]
    blocks = STREAMS[endpoint]
    tap = Tap(endpoint, usage_wanted=True)
    passed = b"".join([tap.feed(block) for block in blocks[:before]])
    assert tap.feed(error + DONE + blocks[-1]) == b""
    assert passed == b"".join(blocks[:before])
    assert tap.error is not None
    assert tap.error["message"].startswith(message)
    assert not tap.close()


def test_what_comes_before_an_error_in_one_read_still_passes() -> None:
    tap = Tap(CHAT, usage_wanted=True)
    tap.feed(ROLE)
    assert tap.feed(FIRST + ERRORS["openai"][1]) == FIRST


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":null}',
        b'{"choices":{"a":1}}',
        b'{"choices":[null,1,"x",[]]}',
        b'{"choices":[{"delta":"text"}]}',
        b'{"choices":[{"delta":[1]}]}',
        b'{"error":null}',
        b'{"error":""}',
        b'{"type":7}',
        b"[]",
        b"7",
        b"{",
        b'{"usage":[1]}',
        b'{"usage":{"prompt_tokens":"7"}}',
        b"[" * 100_000,
    ],
)
def test_events_that_make_no_sense_pass_and_mean_nothing(body: bytes) -> None:
    block = b"data: " + body + b"\n\n"
    for endpoint in STREAMS:
        tap = Tap(endpoint, usage_wanted=True)
        assert tap.feed(block) == block
        assert (tap.content, tap.finished, tap.usage, tap.error) == (False, False, None, None)


# content

CONTENT = {
    "tool calls": '{"content":null,"tool_calls":[{"id":"a","type":"function","index":0,"function":{"name":"f"}}]}',
    "reasoning": '{"reasoning":"hm"}',
    "reasoning_content": '{"reasoning_content":"hm"}',
    "refusal": '{"refusal":"no"}',
    "function_call": '{"function_call":{"name":"f"}}',
    "audio": '{"audio":{"id":"a"}}',
}


@pytest.mark.parametrize("name", CONTENT)
def test_everything_generated_is_content(name: str) -> None:
    tap = Tap(CHAT, usage_wanted=False)
    tap.feed(ROLE)
    tap.feed(chunk(choice(CONTENT[name])))
    assert tap.content


@pytest.mark.parametrize("delta", ['{"role":"assistant"}', '{"content":null}', '{"content":"","tool_calls":[]}', "{}"])
def test_a_chunk_without_anything_generated_is_no_content(delta: str) -> None:
    tap = Tap(CHAT, usage_wanted=False)
    tap.feed(chunk(choice(delta)))
    assert not tap.content


def test_a_stream_that_stops_at_once_has_its_finish_for_content() -> None:
    tap = Tap(CHAT, usage_wanted=False)
    assert play(tap, [chunk(choice("{}", '"stop"')), USAGE, DONE]).count(b'"stop"') == 1
    assert tap.content


PATTERNS = ['"usage"', '"error"', '"finish_reason":"stop"', "data: [DONE]", '{"error":{"message":"x"}}', ': "usage":{}']


@given(st.lists(st.sampled_from(PATTERNS) | st.text(max_size=8), max_size=6).map("".join), st.booleans())
def test_generated_text_is_never_taken_for_the_protocol(text: str, wanted: bool) -> None:
    said = chunk(choice(json.dumps({"content": text or "x"}, separators=(",", ":"))))
    tap = Tap(CHAT, usage_wanted=wanted)
    assert tap.feed(ROLE) + tap.feed(FIRST) + tap.feed(said) == ROLE + FIRST + said
    assert (tap.usage, tap.error, tap.finished, tap.done) == (None, None, False, False)
    assert not tap.close()


def test_crlf_events_are_counted_too() -> None:
    tap = Tap(CHAT, usage_wanted=True)
    for block in VLLM_CHAT:
        tap.feed(block.replace(b"\n", b"\r\n"))
    assert tap.chunks == len(VLLM_CHAT)


def fed(endpoint: Endpoint, *blocks: bytes) -> Tap:
    tap = Tap(endpoint, usage_wanted=True)
    for block in blocks:
        tap.feed(block)
    tap.close()
    return tap


COMMENT = b": keep-alive\n\n"


@pytest.mark.parametrize("joined", [False, True], ids=["one by one", "at once"])
def test_events_that_carry_text_are_counted_whatever_stands_around_them(joined: bool) -> None:
    streams = {
        CHAT: [COMMENT, ROLE, COMMENT, FIRST, COMMENT, SECOND, LAST, USAGE, DONE],
        RESPONSES: [*VLLM_RESPONSES[:5], VLLM_RESPONSES[4], *VLLM_RESPONSES[5:]],
        MESSAGES: VLLM_MESSAGES,
    }
    for endpoint, events in streams.items():
        deltas = sum(b"content_block_delta" in event or b"text.delta" in event for event in events)
        texts = 3 if endpoint is CHAT else deltas
        assert fed(endpoint, *([b"".join(events)] if joined else events)).texts == texts > 0


def test_a_short_reply_has_no_more_text_for_the_frames_around_it() -> None:
    around = [named("response.output_text.done", text="a"), named("response.content_part.done", part={})]
    stream = [*VLLM_RESPONSES[:5], *around, named("response.output_item.done", item={}), VLLM_RESPONSES[-1]]
    assert fed(RESPONSES, *stream).texts == 1


def test_text_that_looks_like_the_name_of_an_event_is_one_event() -> None:
    tricky = named("response.output_text.delta", delta="event: x.delta\nevent: y.delta\r")
    assert fed(RESPONSES, *VLLM_RESPONSES[:5], tricky).texts == 2


@pytest.mark.parametrize(
    ("endpoint", "stream", "reported"),
    [(CHAT, VLLM_CHAT, USAGE), (RESPONSES, VLLM_RESPONSES, VLLM_RESPONSES[-1])],
)
def test_the_report_of_the_end_is_told_from_an_earlier_one(
    endpoint: Endpoint, stream: list[bytes], reported: bytes
) -> None:
    cut = stream.index(reported)
    assert not fed(endpoint, *stream[:cut]).is_final
    assert fed(endpoint, *stream[: cut + 1]).is_final


def test_counts_that_come_with_every_chunk_are_of_the_end_at_the_end() -> None:
    """vLLM's `continuous_usage_stats`."""
    first, second = (chunk(choice('{"content":"a"}'), COUNTS) for _ in range(2))
    assert not fed(CHAT, ROLE, first, second).is_final
    assert fed(CHAT, ROLE, first, second, chunk(choice("{}", '"stop"'), COUNTS)).is_final


def test_anthropics_two_reports() -> None:
    start = named("message_start", message={"usage": {"input_tokens": 25, "output_tokens": 1}})
    delta = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
    end = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    cut, ended = fed(MESSAGES, start, delta, delta), fed(MESSAGES, start, delta, delta, end)
    assert (cut.usage, cut.is_final, cut.texts) == (Usage(input_tokens=25, output_tokens=1), False, 2)
    assert (ended.usage, ended.is_final) == (Usage(input_tokens=25, output_tokens=9), True)


def test_a_failed_response_reports_what_it_used() -> None:
    usage = {"input_tokens": 6, "output_tokens": 300}
    failed = named("response.failed", response={"error": {"message": "no"}, "usage": usage})
    tap = fed(RESPONSES, *VLLM_RESPONSES[:5], failed)
    assert tap.error == {"message": "no"}
    assert (tap.usage, tap.is_final) == (Usage(input_tokens=6, output_tokens=300), True)


def test_the_tier_is_known_before_any_usage_is() -> None:
    assert fed(CHAT, chunk(choice('{"content":"a"}'), ',"service_tier":"priority"')).tier == "priority"
    assert fed(CHAT, chunk(choice('{"content":"a"}'), ',"service_tier":null')).tier == ""
    assert fed(RESPONSES, named("response.created", response={"service_tier": "flex", "usage": None})).tier == "flex"
