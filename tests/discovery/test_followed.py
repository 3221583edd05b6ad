"""What lists and watches say, put together: in the end it is what the cluster has, whatever happened on the way."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.cluster.endpoint_slices import EndpointSlice
from proxy.discovery.followed import Followed, WatchEnded
from proxy.discovery.watch_lines import NotAWatch, WatchEvent, WatchLines
from tests.apiserver import endpoint, endpoint_slice, status
from tests.thorough import examples


def written(name: str, version: int, *endpoints: Any) -> Any:
    one = endpoint_slice(name, *endpoints)
    return {**one, "metadata": {**one["metadata"], "resourceVersion": str(version)}}


def event(kind: str, of: Any) -> WatchEvent:
    return WatchEvent(type=kind, object=msgspec.Raw(json.dumps(of).encode()))


def slices(*objects: Any) -> list[EndpointSlice]:
    return msgspec.convert(objects, list[EndpointSlice])


def names(followed: Followed) -> list[str]:
    assert followed.slices is not None
    return sorted(one.metadata.name for one in followed.slices)


@pytest.fixture
def followed() -> Followed:
    one = Followed()
    one.listed(slices(written("a", 5), written("b", 7)), "9")
    return one


def test_before_the_first_list_nothing_is_known() -> None:
    assert (Followed().slices, Followed().version) == (None, None)


def test_events_change_what_a_list_said(followed: Followed) -> None:
    assert followed.apply(event("ADDED", written("c", 10)))
    assert followed.apply(event("MODIFIED", written("a", 11, endpoint("1", "10.0.0.1"))))
    assert followed.apply(event("DELETED", written("b", 12)))
    assert (names(followed), followed.version) == (["a", "c"], "12")
    assert followed.slices is not None
    assert [len(one.endpoints or ()) for one in followed.slices if one.metadata.name == "a"] == [1]


def test_a_bookmark_is_a_version_and_nothing_else(followed: Followed) -> None:
    assert not followed.apply(event("BOOKMARK", {"metadata": {"resourceVersion": "opaque", "creationTimestamp": None}}))
    assert (names(followed), followed.version) == (["a", "b"], "opaque")


def test_what_is_not_known_yet_is_passed_over(followed: Followed) -> None:
    assert not followed.apply(event("SHUFFLED", {}))
    assert followed.version == "9"
    followed.apply(event("DELETED", written("never seen", 10)))
    assert names(followed) == ["a", "b"]


def test_an_error_ends_the_watch_and_what_is_known_stays(followed: Followed) -> None:
    with pytest.raises(WatchEnded, match="too old resource version") as ended:
        followed.apply(event("ERROR", status(410, "Expired", "too old resource version: 1 (9)")))
    assert ended.value.status == 410
    followed.forget()
    assert (names(followed), followed.version) == (["a", "b"], None)


def test_what_a_new_list_does_not_have_is_gone(followed: Followed) -> None:
    followed.forget()
    followed.listed(slices(written("b", 7)), "20")
    assert (names(followed), followed.version) == (["b"], "20")


@pytest.mark.parametrize(
    "broken",
    [
        event("ADDED", {"metadata": {"name": "c"}}),
        event("ADDED", {"metadata": {"name": "c", "resourceVersion": "10"}, "endpoints": {}}),
        event("BOOKMARK", {"metadata": {}}),
        event("BOOKMARK", {}),
        event("ERROR", []),
    ],
)
def test_what_cannot_be_read_says_nothing(followed: Followed, broken: WatchEvent) -> None:
    with pytest.raises(NotAWatch):
        followed.apply(broken)


class Cluster:
    """A model: slices by name, and all that has happened to them."""

    def __init__(self) -> None:
        self.version = 100
        self.slices: dict[str, Any] = {}
        self.events: list[tuple[int, bytes]] = []
        self.oldest = 100

    def change(self, name: str, address: str | None) -> None:
        """Write a slice, or delete it where there is one."""
        if address is None and name not in self.slices:
            return
        self.version += 1
        kind = "DELETED" if address is None else "MODIFIED" if name in self.slices else "ADDED"
        last = self.slices.pop(name) if address is None else written(name, 0, endpoint(name, address))
        one = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        if address is not None:
            self.slices[name] = one
        self.events.append((self.version, json.dumps({"type": kind, "object": one}).encode() + b"\n"))

    def since(self, version: int) -> bytes:
        """What a watch from a version sends, to its end."""
        if version < self.oldest:
            return json.dumps({"type": "ERROR", "object": status(410, "Expired", "too old")}).encode() + b"\n"
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}
        return b"".join(line for at, line in self.events if at > version) + json.dumps(bookmark).encode() + b"\n"


def watch(followed: Followed, wire: bytes, cuts: list[int]) -> None:
    """Read what came of a watch, in pieces."""
    lines = WatchLines()
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for start, end in pairwise(edges):
        for one in lines.feed(wire[start:end]):
            followed.apply(one)


changes = st.tuples(st.sampled_from("abcd"), st.none() | st.sampled_from(["10.0.0.1", "10.0.0.2"]))
turns = st.lists(
    st.tuples(
        st.lists(changes, max_size=6),
        st.floats(0.0, 1.0),
        st.lists(st.integers(0, 10_000), max_size=5),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=examples(200))
@given(turns)
def test_in_the_end_it_is_what_the_cluster_has(story: list[tuple[list[Any], float, list[int], bool]]) -> None:
    """Each turn something changes, and a watch tells some of it, broken off anywhere; the last is left in peace."""
    cluster, followed = Cluster(), Followed()
    for changed, told, cuts, forgotten in [*story, ([], 1.0, [], False), ([], 1.0, [], False)]:
        for name, address in changed:
            cluster.change(name, address)
        if forgotten:
            cluster.oldest = cluster.version
        if followed.version is None:
            followed.listed(slices(*cluster.slices.values()), str(cluster.version))
        wire = cluster.since(int(followed.version or 0))
        try:
            watch(followed, wire[: round(told * len(wire))], cuts)
        except WatchEnded as ended:
            assert ended.status == 410
            followed.forget()
    assert followed.slices is not None
    assert {one.metadata.name: one for one in followed.slices} == {
        name: msgspec.convert(one, EndpointSlice) for name, one in cluster.slices.items()
    }
