"""An upstream that knows to the token what it has generated, as a process: the truth that meters are held against.

    python -m tests.faults.upstream PORT TOKENS_PER_S INPUT_PRICE OUTPUT_PRICE

What a request is to get stands in its prompt: `<output tokens> <manner>`. Manners: `usage` (reported at the end),
`silent` (never reported), `error` (an error event half-way), `reset` (the connection is closed half-way). A token is an
event; the input is counted as one token for every four bytes of the prompt. One tick of the clock serves all streams.

`GET /truth` tells, by request id, `[input tokens, output tokens, nano-USD, 1 if usage was reported and 0 if not]`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import orjson
import uvloop

TICK_S = 0.02
EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
CHUNKED_EVENT = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
STOP = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
ERROR = b'data: {"error":{"message":"the engine has failed","type":"server_error","code":500}}\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answer:
    """One answer under way."""

    def __init__(self, peer: Peer, request_id: str, prompt: str, stream: bool) -> None:
        planned, self.manner = prompt.split()[:2]
        self.peer, self.request_id, self.planned = peer, request_id, int(planned)
        self.stream = stream
        self.input_tokens = len(prompt) // 4
        self.emitted = 0
        self.due = 0.0
        self.reported = False

    def tick(self, tokens: float) -> bool:
        """Generate so many tokens more; False when the answer is over."""
        self.due += tokens
        goal = self.planned // 2 if self.manner in {"error", "reset"} else self.planned
        count = min(int(self.due), goal) - self.emitted
        self.emitted += count
        if self.stream and count:
            self.peer.transport.write(CHUNKED_EVENT * count)
        if self.emitted < goal:
            return True
        self._end()
        return False

    def _end(self) -> None:
        write = self.peer.transport.write
        if self.manner == "reset":
            self.peer.transport.abort()
            return
        if self.manner == "error":
            write(chunk(ERROR) + b"0\r\n\r\n")
            return
        usage = {"prompt_tokens": self.input_tokens, "completion_tokens": self.emitted, "total_tokens": 0}
        self.reported = self.manner == "usage"
        if self.stream:
            told = orjson.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage})
            tail = chunk(b"data: " + told + b"\n\n") if self.reported else b""
            write(chunk(STOP) + tail + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        message = {"role": "assistant", "content": "word " * self.emitted}
        body = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
        text = orjson.dumps(body | ({"usage": usage} if self.reported else {}))
        write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text) + text)


class World:
    """Everything that was ever generated, and what is being generated."""

    def __init__(self, tokens_per_s: float, input_price: int, output_price: int) -> None:
        self.tokens_per_s, self.input_price, self.output_price = tokens_per_s, input_price, output_price
        self.running: set[Answer] = set()
        self.answers: list[Answer] = []

    def begin(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.running.add(answer)
        if answer.stream:
            answer.peer.transport.write(STREAM_HEAD)

    def leave(self, peer: Peer) -> None:
        if peer.answer is not None:
            self.running.discard(peer.answer)

    async def run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            tokens, last = (now - last) * self.tokens_per_s, now
            for answer in list(self.running):
                if not answer.tick(tokens):
                    self.running.discard(answer)
                    answer.peer.answer = None

    def truth(self) -> bytes:
        """By request id; a request that came twice is added up."""
        sums: dict[str, list[int]] = {}
        for one in self.answers:
            cost = (one.input_tokens * self.input_price + one.emitted * self.output_price) // 1000
            row = sums.setdefault(one.request_id, [0, 0, 0, 1])
            row[0] += one.input_tokens
            row[1] += one.emitted
            row[2] += cost
            row[3] &= int(one.reported)
        return orjson.dumps({"running": len(self.running), "requests": sums})


class Peer(asyncio.Protocol):
    """A connection from a proxy, or from the test."""

    transport: asyncio.Transport

    def __init__(self, world: World) -> None:
        self.world = world
        self.buffer = b""
        self.answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.world.leave(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if lines[0].startswith(b"GET /truth"):
            text = self.world.truth()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
            return
        body = orjson.loads(rest[:length])
        prompt = body["messages"][0]["content"]
        answer = Answer(self, fields[b"x-request-id"].decode(), prompt, bool(body.get("stream")))
        if "max_tokens" in body:
            answer.planned = min(answer.planned, body["max_tokens"])
        self.answer = answer
        self.world.begin(answer)


async def main(port: int, tokens_per_s: float, input_price: int, output_price: int) -> None:
    """Prices are micro-USD per million tokens, or nano-USD per thousand."""
    world = World(tokens_per_s, input_price, output_price)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(world), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await world.run()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
