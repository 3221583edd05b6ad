"""What the GPUs behind a dedicated target are, what they cost, and how many there are at any time."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Tranche:
    """Some of the replicas, at a price of their own: nano-USD for one GPU and one hour."""

    replicas: int
    nano_usd_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPrice:
    """What one GPU costs for an hour while `schedule` covers the time, in nano-USD."""

    schedule: Schedule
    nano_usd_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsReplicas:
    """As many replicas as `host` has addresses: a headless Service."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesReplicas:
    """As many replicas as the Service has endpoints."""

    service: str
    namespace: str


ReplicaSource = DnsReplicas | KubernetesReplicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs behind one replica; `nano_usd_per_hour` is the price of one GPU for one hour.

    The first replicas are the `reserved` ones, paid whether they are there or not; the next are `spot`; the rest cost
    what the first fitting item of `schedule` says, else `nano_usd_per_hour`. `replicas` is how many stand behind the
    target, where that is not the number of its URLs.
    """

    type: str
    count: int
    nano_usd_per_hour: int
    reserved: Tranche | None = None
    spot: Tranche | None = None
    schedule: tuple[TimedPrice, ...] = ()
    replicas: int | ReplicaSource | None = None

    @property
    def replica_nano_usd_per_hour(self) -> int:
        """What one replica costs in an hour, used or idle, where no other price applies to it."""
        return self.count * self.nano_usd_per_hour

    def behind(self, urls: int) -> int | None:
        """How many replicas stand behind so many URLs; None where only DNS or the cluster knows."""
        if self.replicas is None:
            return urls
        return self.replicas if isinstance(self.replicas, int) else None

    def rate(self, replicas: int, at_s: float) -> int:
        """What so many replicas cost at the Unix time `at_s`, used or idle: nano-USD an hour."""
        reserved, spot = self.reserved, self.spot
        beyond = max(0, replicas - (reserved.replicas if reserved else 0))
        on_spot = min(beyond, spot.replicas) if spot else 0
        per_gpu = (beyond - on_spot) * self._price_at(at_s)
        if reserved:
            per_gpu += reserved.replicas * reserved.nano_usd_per_hour
        if spot:
            per_gpu += on_spot * spot.nano_usd_per_hour
        return self.count * per_gpu

    def unused_rate(self, replicas: int) -> int:
        """Of that, what the reserved ones cost that do not run."""
        reserved = self.reserved
        missing = max(0, reserved.replicas - replicas) if reserved else 0
        return self.count * missing * reserved.nano_usd_per_hour if reserved else 0

    def _price_at(self, at_s: float) -> int:
        prices = (item.nano_usd_per_hour for item in self.schedule if item.schedule.covers(at_s))
        return next(prices, self.nano_usd_per_hour)
