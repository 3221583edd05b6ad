"""The demand that was metered, as the admin port sends it: a JSON line for each pool and hour, and for each app in it.

Theory of operation
-------------------
First comes from when to when it was watched: an hour without a line had no demand, if it lies between the two. `bins`
are how many of an hour's bins lay in each bucket of `work_buckets.py`; those without any work are not counted, and are
the rest of the hour. An hour that is still open is worked out of its bins as they are. As in `usage_rows.py` the last
line says that it is the last.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from proxy.meters.aggregates import Grain, Period
from proxy.meters.fields import apart
from proxy.meters.usage_rows import Complete, Failed
from proxy.meters.vectors import add, decode
from proxy.meters.work_bins import SUMS
from proxy.meters.work_buckets import counts_of

HOUR_S = 3600
_HOURS_AT_ONCE = 24


class Watched(msgspec.Struct, frozen=True, kw_only=True, tag="watched"):
    """Between these two points in time, Unix, all demand was metered."""

    from_s: float
    to_s: float


class DemandHour(msgspec.Struct, frozen=True, kw_only=True, tag="bins"):
    """How many bins of `bin_ms` of one hour of a pool had how much work."""

    start_s: int
    target: str
    model: str
    bin_ms: int
    bins: tuple[int, ...]


class AppHour(msgspec.Struct, frozen=True, kw_only=True, tag="app"):
    """What one app asked of a pool in one hour; sums by name, as in `work_bins.SUMS`, those that are not zero.

    `asked` is the public model, `target` and `model` name the pool.
    """

    start_s: int
    target: str
    model: str
    tenant: str
    key: str
    asked: str
    sums: dict[str, int]


DemandRow = Watched | DemandHour | AppHour | Failed | Complete


class StoredHour(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of one hour: its hash, and the bins that are still open by `<bin ms>|<pool>`."""

    start_s: int
    fields: Mapping[str, bytes]
    open_bins: Mapping[str, bytes]


ReadDemand = Callable[[int, int], Awaitable[tuple[Watched, list[StoredHour]]]]
"""What `Store.demand` is: the hours that begin from the first time on and before the second."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DemandRow).decode


async def demand_lines(from_s: int, to_s: int, read: ReadDemand) -> AsyncIterator[bytes]:
    """The lines, for whole hours, in portions that are read as they are sent. Raises what `read` raises."""
    count, watched = 0, None
    for begin in range(from_s, max(to_s, from_s + 1), _HOURS_AT_ONCE * HOUR_S):
        seen, hours = await read(begin, min(begin + _HOURS_AT_ONCE * HOUR_S, to_s))
        portion: list[DemandRow] = [row for hour in hours for row in rows_of(hour)]
        count += len(portion)
        if watched is None:
            watched = Watched(from_s=max(seen.from_s, from_s), to_s=max(seen.from_s, from_s, min(seen.to_s, to_s)))
            portion.insert(0, watched)
        yield _lines(portion)
    yield _lines([Complete(rows=count)])


def read_demand_line(line: bytes) -> DemandRow:
    """The inverse. Raises msgspec.MsgspecError."""
    row: DemandRow = _decode(line)
    return row


def rows_of(hour: StoredHour) -> list[DemandHour | AppHour]:
    """The lines of one hour, in an order that does not depend on the store's. Names that this release does not know are
    left out.
    """
    return [*_bins(hour), *_apps(hour)]


def stored_hour(start_s: int, fields: Sequence[bytes], open_bins: Mapping[str, bytes | None]) -> StoredHour:
    """One hour as a server answers: names and values in turns."""
    return StoredHour(
        start_s=start_s,
        fields={name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)},
        open_bins={name: bins for name, bins in open_bins.items() if bins is not None},
    )


def key_of_hour(start_s: int) -> str:
    """The name of an hour within the store's names: `20261122T18`."""
    return Period(Grain.HOUR, start_s).key.partition(":")[2]


def _bins(hour: StoredHour) -> Iterator[DemandHour]:
    counts: dict[str, tuple[int, ...]] = {
        name.removeprefix("bins|"): decode(text) for name, text in hour.fields.items() if name.startswith("bins|")
    }
    for name, bins in hour.open_bins.items():
        works = struct.unpack(f">{len(bins) // 8}q", bins[: len(bins) // 8 * 8])
        counts[name] = add(counts.get(name, ()), tuple(counts_of(works, int(name.partition("|")[0]))))
    for name in sorted(counts):
        bin_ms, *pool = apart(name)
        if len(pool) == 2:
            target, model = pool
            yield DemandHour(start_s=hour.start_s, target=target, model=model, bin_ms=int(bin_ms), bins=counts[name])


def _apps(hour: StoredHour) -> Iterator[AppHour]:
    for name in sorted(hour.fields):
        kind, *labels = apart(name)
        if kind == "app" and len(labels) == 5:
            target, model, tenant, key, asked = labels
            sums = _by_name(decode(hour.fields[name]))
            yield AppHour(
                start_s=hour.start_s, target=target, model=model, tenant=tenant, key=key, asked=asked, sums=sums
            )


def _by_name(vector: Sequence[int]) -> dict[str, int]:
    return {name: amount for name, amount in zip(SUMS, vector, strict=False) if amount}


def _lines(rows: Iterable[DemandRow]) -> bytes:
    return b"".join([_encode(row) + b"\n" for row in rows])
