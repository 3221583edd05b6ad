"""The EndpointSlices of one Service as lists and watches tell them.

Theory of operation
-------------------
A list says all there is, and from which version on to watch; a watch says what has changed since. Each event has the
version up to which all is known then; bookmarks have nothing else. Versions are compared with nothing and handed back
as they are (Kubernetes, "API concepts": resource versions). When the server no longer knows what came after a version
it says 410, and a list is asked for again: what that does not have is gone.
"""

from __future__ import annotations

import msgspec

from proxy.cluster.endpoint_slices import EndpointSlice, Metadata
from proxy.discovery.watch_lines import NotAWatch, WatchEvent


class WatchEnded(Exception):
    """The server ends the watch with an error, and says which: an HTTP status, as if it had answered that."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Bookmark(msgspec.Struct, frozen=True):
    metadata: Metadata


class _Status(msgspec.Struct, frozen=True):
    code: int = 500
    message: str = ""


class Followed:
    """See the module's text. `version` is None before the first list, and after `forget`."""

    __slots__ = ("_slices", "version")

    def __init__(self) -> None:
        self._slices: dict[str, EndpointSlice] | None = None
        self.version: str | None = None

    @property
    def slices(self) -> tuple[EndpointSlice, ...] | None:
        """What is known; None before the first list."""
        return None if self._slices is None else tuple(self._slices.values())

    def forget(self) -> None:
        """The version is of no use any more; what is known stays known until there is another list."""
        self.version = None

    def listed(self, slices: list[EndpointSlice], version: str) -> None:
        """All there was at a version."""
        self._slices = {one.metadata.name: one for one in slices}
        self.version = version

    def apply(self, event: WatchEvent) -> bool:
        """Take in what a watch says; whether a slice is another now. Raises WatchEnded, NotAWatch."""
        assert self._slices is not None, "a watch begins where a list ended"
        try:
            match event.type:
                case "ADDED" | "MODIFIED":
                    one = msgspec.json.decode(event.object, type=EndpointSlice)
                    self._slices[one.metadata.name] = one
                case "DELETED":
                    one = msgspec.json.decode(event.object, type=EndpointSlice)
                    self._slices.pop(one.metadata.name, None)
                case "BOOKMARK":
                    self._seen(msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version)
                    return False
                case "ERROR":
                    status = msgspec.json.decode(event.object, type=_Status)
                    raise WatchEnded(status.code, f"the API server ends the watch: {status.message[:200]}")
                case _:
                    return False
        except msgspec.MsgspecError as error:
            raise NotAWatch(f"what it says of a slice cannot be read: {error}") from None
        self._seen(one.metadata.resource_version)
        return True

    def _seen(self, version: str) -> None:
        if not version:
            raise NotAWatch("it is an event without a version")
        self.version = version
