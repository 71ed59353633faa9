"""How pods are born: what the caller fixes, what the offer fixes, and the rest drawn from the seed."""

from random import Random

from attrs import evolve, frozen

from .boot import Timeline, boots, breaks, draw_duration, recovers
from .catalog import (
    CLUSTER_PROVIDERS,
    GPU_COUNTS,
    GPUS,
    IMAGES,
    PROVIDERS,
    Gpu,
    Provider,
)
from .config import Nature
from .pods import PodOverrides, PodRecord
from .randomness import stream


@frozen(kw_only=True)
class Fate:
    """What the seeded fleet decides for a pod before it is born."""

    doomed: bool
    flaky: bool


def bear(  # noqa: PLR0913  the last two by keyword
    nature: Nature,
    number: int,
    created: float,
    wishes: PodOverrides,
    *,
    name: str | None = None,
    fate: Fate | None = None,
) -> PodRecord:
    """Make pod number `number`: the same seed, number and wishes always make the same pod.

    Without a `fate` its luck is drawn from the rates.
    """
    rng = stream(nature.seed, f"pod:{number}")
    pod_id = f"{rng.getrandbits(128):032x}"
    nodes = wishes.get("nodes", rng.choice((2, 4)) if rng.random() < nature.cluster_rate else 1)
    provider = _provider(rng, nodes, wishes.get("provider"))
    gpu = _gpu(rng, wishes)
    count = wishes.get("gpu_count", 8 * nodes if nodes > 1 else rng.choice(GPU_COUNTS))
    price = wishes.get("price_hr", round(gpu.price * count * rng.uniform(0.9, 1.1), 2))
    record = PodRecord(
        id=wishes.get("id", pod_id),
        number=number,
        name=name if name is not None else f"{gpu.name.split('_')[0].lower()}-{count}-{number:05d}",
        provider=provider.name,
        gpu_name=gpu.name,
        gpu_count=count,
        socket=gpu.socket,
        price_hr=price,
        image=wishes.get("image", rng.choice(IMAGES)),
        nodes=nodes,
        ssh_user=provider.ssh_user,
        ssh_port=provider.ssh_port,
        created=created,
        timeline=_timeline(rng, nature, provider, wishes, fate),
        memory=64 * count,
        disk=rng.choice((100, 200, 500, 1000)),
        vcpus=8 * count,
        team_id=wishes.get("team_id"),
        staggered=wishes.get("staggered", False),
        appears=created + wishes.get("appear_seconds", 0.0),
        pod_fields=dict(wishes.get("pod_fields", {})),
        status_fields=dict(wishes.get("status_fields", {})),
    )
    _spot(rng, nature, record, wishes)
    return record


def _spot(rng: Random, nature: Nature, record: PodRecord, wishes: PodOverrides) -> None:
    """Decide whether it is a spot pod, and when the provider takes it away."""
    record.spot = wishes.get("spot", rng.random() < nature.spot_rate)
    lifetime = rng.expovariate(1.0) * nature.spot_seconds
    vanishes = wishes.get("vanish_seconds", lifetime if record.spot else None)
    record.gone = None if vanishes is None else record.created + vanishes


def _provider(rng: Random, nodes: int, wished: str | None) -> Provider:
    drawn = rng.choice(CLUSTER_PROVIDERS if nodes > 1 else PROVIDERS)
    if wished is None:
        return drawn
    known = {provider.name: provider for provider in PROVIDERS}
    other = evolve(drawn, name=wished, boot_factor=1.0, ssh_user="root", ssh_port=22)
    return known.get(wished, other)


def _gpu(rng: Random, wishes: PodOverrides) -> Gpu:
    drawn = rng.choice(GPUS)
    name = wishes.get("gpu_name", drawn.name)
    model = next((gpu for gpu in (drawn, *GPUS) if gpu.name == name), drawn)
    return Gpu(name=name, memory=model.memory, socket=wishes.get("socket", model.socket), price=model.price)


def _timeline(
    rng: Random, nature: Nature, provider: Provider, wishes: PodOverrides, fate: Fate | None
) -> Timeline:
    drawn = draw_duration(rng, nature.boot_seconds, provider.boot_factor)
    duration = wishes.get("boot_seconds", drawn)
    luck, stumbles = rng.random(), rng.choice((1, 1, 2))
    if fate is None:
        fate = Fate(doomed=luck < nature.failure_rate, flaky=rng.random() < nature.flaky_rate)
    doomed = wishes["failure"] is not None if "failure" in wishes else fate.doomed
    retries = wishes.get("retries", stumbles if fate.flaky else 0)
    if doomed:
        return breaks(rng, duration, wishes.get("failure"))
    return recovers(rng, duration, retries) if retries else boots(rng, duration)
