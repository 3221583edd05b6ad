"""From the policy and the options of `spillway advise` to what the advisor is asked: offers, prices, lawful targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.advisor.breakeven import Offer
from proxy.advisor.lawful import Lawfully, lawfully, models_of, objectives
from proxy.advisor.trace import App
from proxy.advisor.value import Shared
from proxy.cli.advise_options import CannotAdvise, Gpu
from proxy.policy.model import Lane, Snapshot, Target
from proxy.policy.price import Price
from proxy.policy.words import did_you_mean
from proxy.routing.decide import Router

NANO = 1e-9
DEFAULT_TTFT_S = 2.0
DEFAULT_ITL_S = 0.05
"""Where neither a route nor an option says: nobody reads faster than 20 tokens a second."""
PriceOf = Callable[[str, str], Price | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the options say. `allow` None allows all that the policy does; `prices` are by name."""

    target: str | None
    allow: tuple[str, ...] | None
    gpus: tuple[Gpu, ...]
    prices: Mapping[str, Price]
    ttft_s: float | None
    itl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The replicas that advice is asked on, and what they compete with.

    `names` are all targets of the pool, as meters may call it, and `apps[i]` is what is lawful for the i-th app that
    was asked about. `have` is how many replicas the policy has of the first. `priced` are the shared targets of the
    policy whose price is known, and their providers, whether or not they are lawful for anybody here.
    """

    offer: Offer
    others: tuple[Offer, ...]
    names: frozenset[str]
    have: int
    ttft_s: float
    apps: tuple[Lawfully, ...]
    priced: frozenset[str]


def pools(snapshot: Snapshot | None, choices: Choices, apps: Sequence[App]) -> list[Pool]:
    """One for each group of dedicated targets that serve the same models; or the GPUs of the command line alone."""
    if snapshot is None:
        return [_without_policy(choices, len(apps))]
    router = Router(snapshot)
    taken: set[int] = set()
    found = []
    for group in _groups(snapshot, choices.target):
        lawful = tuple(lawfully(router, snapshot, group[0], app) for app in apps)
        # An app that names no model of the policy asks for the first pool's, or it would be counted in each of them.
        mine = tuple(
            one if app.model in snapshot.models or index not in taken else Lawfully(dedicated=False)
            for index, (app, one) in enumerate(zip(apps, lawful, strict=True))
        )
        taken |= {index for index, one in enumerate(mine) if one.dedicated}
        if any(one.dedicated for one in mine):
            found.append(_pool(group, choices, mine, _priced_names(snapshot, choices.prices)))
    return found


def _priced_names(snapshot: Snapshot, prices: Mapping[str, Price]) -> frozenset[str]:
    shared = [one for one in snapshot.targets.values() if one.lane is Lane.SHARED]
    known = [one for one in shared if one.price is not None or one.name in prices or one.provider in prices]
    return frozenset(name for one in known for name in (one.name, one.provider) if name)


def _groups(snapshot: Snapshot, wanted: str | None) -> list[list[Target]]:
    dedicated = [one for one in snapshot.targets.values() if one.lane is Lane.DEDICATED]
    if wanted is not None:
        if wanted not in {one.name for one in dedicated}:
            hint = did_you_mean(wanted, [one.name for one in dedicated])
            raise CannotAdvise(f"the policy has no dedicated target `{wanted}` (hint: {hint})")
        dedicated.sort(key=lambda one: one.name != wanted)
    groups: dict[tuple[str, ...], list[Target]] = {}
    for one in dedicated:
        groups.setdefault(models_of(snapshot, one), []).append(one)
    there = [group for models, group in groups.items() if models]
    return there[:1] if wanted is not None else there


def _pool(group: Sequence[Target], choices: Choices, apps: tuple[Lawfully, ...], priced: frozenset[str]) -> Pool:
    routed_ttft_s, routed_itl_s = objectives(apps, DEFAULT_ITL_S)
    itl_s = choices.itl_s or routed_itl_s
    offers = [_offer(one, itl_s) for one in group]
    extra = [_offer_of_gpu(one, itl_s) for one in choices.gpus]
    usable = [one for one in (*offers, *extra) if one is not None]
    if not usable:
        name = group[0].name
        missing = "GPUs and their price" if group[0].gpus is None else "engine profile"
        hint = "`gpus:` and `engine_profile:` in the policy, or `--gpu 70b-fp8-2xh100=5.98`"
        raise CannotAdvise(f"target `{name}` states no {missing} (hint: {hint})")
    return Pool(
        offer=usable[0],
        others=tuple(usable[1:]),
        names=frozenset(one.name for one in group),
        have=_have(group[0]),
        ttft_s=choices.ttft_s or routed_ttft_s,
        apps=apps,
        priced=priced,
    )


def _offer(target: Target, itl_s: float) -> Offer | None:
    if target.gpus is None or target.profile is None:
        return None
    per_hour = target.gpus.replica_nano_usd_per_hour * NANO
    return Offer(name=target.name, profile=target.profile, usd_per_hour=per_hour, itl_s=itl_s)


def _offer_of_gpu(gpu: Gpu, itl_s: float) -> Offer:
    return Offer(name=gpu.profile.name, profile=gpu.profile, usd_per_hour=gpu.usd_per_hour, itl_s=itl_s)


def _have(target: Target) -> int:
    known = target.gpus.behind(target.replicas) if target.gpus is not None else None
    return target.replicas if known is None else known


def _without_policy(choices: Choices, apps: int) -> Pool:
    if not choices.gpus:
        raise CannotAdvise(
            "there is neither a policy nor a GPU (hint: `--policy FILE`, or `--gpu 70b-fp8-2xh100=5.98`)"
        )
    if not choices.prices and not choices.allow:
        raise CannotAdvise(
            "there is neither a policy nor a price (hint: `--policy FILE`, or what tokens cost elsewhere, as"
            " `--price NAME=0.72/0.72`)"
        )
    itl_s = choices.itl_s or DEFAULT_ITL_S
    first, *others = [_offer_of_gpu(one, itl_s) for one in choices.gpus]
    shared = tuple(Shared(target=name, provider=name, price=one) for name, one in choices.prices.items())
    return Pool(
        offer=first,
        others=tuple(others),
        names=frozenset(),
        have=0,
        ttft_s=choices.ttft_s or DEFAULT_TTFT_S,
        apps=(Lawfully(dedicated=True, shared=shared),) * apps,
        priced=frozenset(choices.prices),
    )


Lawful = list[list[Shared]]


def allowed(pool: Pool, choices: Choices, price_of: PriceOf) -> Lawful:
    """The shared targets of each app whose prices may be used; a price that is stated allows whom it names."""
    priced = [_priced(one, choices.prices) for one in pool.apps]
    extra = _extra(pool, choices, price_of)
    if choices.allow is None:
        found = [[*some, *extra] for some in priced]
        _all_priced(pool, found)
        return found
    names = {*choices.allow, *choices.prices}
    return [[*(one for one in some if names & {one.target, one.provider}), *extra] for some in priced]


def _priced(lawful: Lawfully, prices: Mapping[str, Price]) -> list[Shared]:
    """What is lawful, at the prices of the command line where it states any."""
    known = [
        replace(one, price=prices.get(one.target) or prices.get(one.provider) or one.price) for one in lawful.shared
    ]
    return known + [Shared(target=name, provider="", price=prices[name]) for name in lawful.unpriced if name in prices]


def _all_priced(pool: Pool, priced: Lawful) -> None:
    """Who may use a shared target whose price nobody knows is not captive, and there is nothing to reckon with."""
    for lawful, known in zip(pool.apps, priced, strict=True):
        if lawful.unpriced and not known:
            name = lawful.unpriced[0]
            hint = f"`price:` in the policy, or `--price {name}=0.72/0.72`"
            raise CannotAdvise(f"nobody knows what `{name}` costs (hint: {hint})")


def _extra(pool: Pool, choices: Choices, price_of: PriceOf) -> list[Shared]:
    """Those that the policy does not have: at a price that was stated, or by the price list as `provider/model`.

    Everybody may use them, as nothing is known of them that the policy's gates could look at.
    """
    found = []
    for name in dict.fromkeys((*choices.prices, *(choices.allow or ()))):
        if name in pool.priced:
            continue
        provider, _, model = name.partition("/")
        price = choices.prices.get(name) or (price_of(provider, model) if model else None)
        if price is None:
            listed = "the price list has no such model" if model else did_you_mean(name, sorted(pool.priced))
            ways = f"a target, a provider, `provider/model`, or `--price {name}=0.72/0.72`"
            raise CannotAdvise(f"nobody named `{name}` has a price here (hint: {listed}; {ways})")
        found.append(Shared(target=name, provider=provider, price=price))
    return found


def other_choices(pool: Pool, lawful: Lawful, choices: Choices) -> dict[str, Lawful]:
    """What else could be allowed: each shared target of the policy that is not, and each that is, alone."""
    priced = [_priced(one, choices.prices) for one in pool.apps]
    named = {one.target for some in lawful for one in some}
    found: dict[str, Lawful] = {}
    for name in dict.fromkeys(one.target for some in priced for one in some):
        if name not in named:
            found[f"`{name}` allowed too"] = [
                [*now, *(one for one in some if one.target == name)] for now, some in zip(lawful, priced, strict=True)
            ]
    if len(named) > 1:
        for name in sorted(named):
            alone = [[one for one in some if one.target == name] for some in lawful]
            if all(some or not now for some, now in zip(alone, lawful, strict=True)):
                found[f"`{name}` alone"] = alone
    return found
