"""The client over ASGI: what a slow server's `send()` does to order and pace, and what a leaving client looks like."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.api.errors import OPENAI
from proxy.api.stream import AsgiClient, Message


class Server:
    """An ASGI server whose `send()` can be made to wait."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        await self.open.wait()
        self.sent.append(message)

    async def receive(self) -> Message:
        return await self.messages.get()

    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]


class Listener:
    """Stands in for the relay's forward."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()

    def on_client_ready(self) -> None:
        self.told.put_nowait("ready")

    def on_client_left(self) -> None:
        self.told.put_nowait("left")


def client_of(server: Server) -> tuple[AsgiClient, Listener]:
    client, listener = AsgiClient(server.receive, server.send, OPENAI, "r1"), Listener()
    client.listener = listener  # type: ignore[assignment]
    return client, listener


async def test_with_room_everything_is_sent_at_once() -> None:
    server = Server()
    client, _ = client_of(server)
    client.start(200, [(b"a", b"b")])
    assert client.write(b"one")
    client.end(b"two")
    assert server.sent[0]["headers"] == [(b"a", b"b"), (b"x-request-id", b"r1")]
    assert server.bodies() == [b"one", b"two"]
    assert [message["more_body"] for message in server.sent[1:]] == [True, False]


async def test_a_slow_client_is_said_to_be_slow_and_loses_no_order() -> None:
    server = Server()
    client, listener = client_of(server)
    client.start(200, [])
    server.open.clear()
    assert not client.write(b"one")
    assert not client.write(b"two")
    assert server.bodies() == []
    server.open.set()
    assert await listener.told.get() == "ready"
    assert server.bodies() == [b"one", b"two"]
    assert client.write(b"three")
    assert server.bodies() == [b"one", b"two", b"three"]


async def test_the_end_may_wait_too_and_is_waited_for() -> None:
    server = Server()
    client, _ = client_of(server)
    server.open.clear()
    client.start(200, [])
    client.write(b"one")
    client.end(b"two")
    asyncio.get_running_loop().call_soon(server.open.set)
    await client.drained()
    assert server.bodies() == [b"one", b"two"]


async def test_a_leaving_client_is_told_of_once() -> None:
    server = Server()
    client, listener = client_of(server)
    client.watch()
    server.messages.put_nowait({"type": "http.disconnect"})
    assert await listener.told.get() == "left"
    assert client.left
    client.unwatch()


async def test_other_messages_are_passed_over() -> None:
    server = Server()
    client, listener = client_of(server)
    client.watch()
    more: dict[str, Any] = {"type": "http.request", "body": b"", "more_body": False}
    server.messages.put_nowait(more)
    await asyncio.sleep(0)
    assert not client.left
    server.messages.put_nowait({"type": "http.disconnect"})
    assert await listener.told.get() == "left"


async def test_after_the_end_nobody_watches() -> None:
    server = Server()
    client, listener = client_of(server)
    client.watch()
    client.start(200, [])
    client.end()
    server.messages.put_nowait({"type": "http.disconnect"})
    await asyncio.sleep(0)
    assert not client.left
    assert listener.told.empty()
