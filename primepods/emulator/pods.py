"""The record of one pod, and how pods are born."""

from random import Random
from typing import TypedDict

from attrs import Factory, define, evolve, frozen

from primepods.emulator.catalog import CLUSTER_PROVIDERS, GPU_COUNTS, GPUS, IMAGES, PROVIDERS, Gpu, Provider
from primepods.emulator.timeline import Stage, Timeline, boots, breaks, deleting, draw_duration, stage_at

USER_ID = "clemulator0000user"
WALLET_ID = "clemulator0001wallet"


@define(kw_only=True, eq=False)
class PodRecord:
    """All that is known of a pod. Times are seconds on the emulator's clock.

    See `stage` for what follows from it.
    """

    id: str
    number: int
    name: str
    provider: str
    gpu_name: str
    gpu_count: int
    socket: str
    price_hr: float
    image: str
    nodes: int
    ssh_user: str
    ssh_port: int
    created: float
    timeline: Timeline
    memory: int
    disk: int
    vcpus: int
    team_id: str | None = None
    delete_asked: float | None = None
    gone: float | None = None
    """When it leaves list, get and status."""
    pod_fields: dict[str, object] = Factory(dict[str, object])
    """Laid over the pod's wire shape: for answers as odd as a test needs them."""
    status_fields: dict[str, object] = Factory(dict[str, object])
    rendered: dict[str, tuple[Stage, bytes]] = Factory(dict[str, tuple[Stage, bytes]])
    """The last encoding by kind of row: most polls change nothing."""

    def stage(self, now: float) -> Stage:
        """What the pod is at `now`."""
        if self.delete_asked is None or now < self.delete_asked:
            return stage_at(self.timeline, now - self.created)
        asked = self.delete_asked - self.created
        return deleting(stage_at(self.timeline, asked), asked)

    def addresses(self) -> list[str]:
        """One address a node, from the block reserved for benchmarks: never anybody's machine."""
        return [f"198.{18 + (n >> 16 & 1)}.{n >> 8 & 255}.{n & 255}" for n in self._address_numbers()]

    def _address_numbers(self) -> range:
        first = self.number * 8 + 1
        return range(first, first + self.nodes)


@frozen(kw_only=True)
class EmulatedPod:
    """A pod as the emulator sees it at one moment: what `Emulator.pods` holds."""

    id: str
    name: str
    status: str
    installation_status: str
    installation_progress: int | None
    installation_failure: str | None
    provider: str
    gpu_name: str
    gpu_count: int
    price_hr: float
    nodes: int


def view(record: PodRecord, now: float) -> EmulatedPod:
    """The pod's state at `now`."""
    stage = record.stage(now)
    return EmulatedPod(
        id=record.id,
        name=record.name,
        status=stage.status,
        installation_status=stage.installation,
        installation_progress=stage.progress,
        installation_failure=stage.failure,
        provider=record.provider,
        gpu_name=record.gpu_name,
        gpu_count=record.gpu_count,
        price_hr=record.price_hr,
        nodes=record.nodes,
    )


class PodOverrides(TypedDict, total=False):
    """What `Emulator.add_pod` lets the caller fix; everything else is drawn from the seed."""

    id: str
    provider: str
    gpu_name: str
    gpu_count: int
    socket: str
    price_hr: float
    image: str
    nodes: int
    """More than one makes `ip` and `sshConnection` lists."""
    team_id: str | None
    boot_seconds: float
    """Exactly this long from birth to ready; 0 means ready at once."""
    failure: str | None
    """Ends in ERROR with this text instead of getting ready; `None` means that it does not fail."""
    pod_fields: dict[str, object]
    """Wire fields laid over the pod in list and get."""
    status_fields: dict[str, object]
    """Wire fields laid over its status row."""


@frozen(kw_only=True)
class Nature:
    """How pods of this emulator are by default."""

    seed: int
    boot_seconds: float
    failure_rate: float
    cluster_rate: float


def bear(  # noqa: PLR0913  the last three by keyword
    nature: Nature,
    number: int,
    created: float,
    *,
    name: str | None = None,
    doomed: bool | None = None,
    wishes: PodOverrides | None = None,
) -> PodRecord:
    """Make pod number `number`: the same seed and number always make the same pod.

    `doomed` says whether its boot fails; `None` draws that from the failure rate.
    """
    wishes = wishes if wishes is not None else {}
    rng = Random(f"{nature.seed}:pod:{number}")
    pod_id = f"{rng.getrandbits(128):032x}"
    nodes = wishes.get("nodes", rng.choice((2, 4)) if rng.random() < nature.cluster_rate else 1)
    provider = _provider(rng, nodes, wishes.get("provider"))
    gpu = _gpu(rng, wishes)
    count = wishes.get("gpu_count", 8 * nodes if nodes > 1 else rng.choice(GPU_COUNTS))
    price = wishes.get("price_hr", round(gpu.price * count * rng.uniform(0.9, 1.1), 2))
    return PodRecord(
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
        timeline=_timeline(rng, nature, provider, wishes, doomed=doomed),
        memory=64 * count,
        disk=rng.choice((100, 200, 500, 1000)),
        vcpus=8 * count,
        team_id=wishes.get("team_id"),
        pod_fields=dict(wishes.get("pod_fields", {})),
        status_fields=dict(wishes.get("status_fields", {})),
    )


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
    rng: Random, nature: Nature, provider: Provider, wishes: PodOverrides, *, doomed: bool | None
) -> Timeline:
    drawn = draw_duration(rng, nature.boot_seconds, provider.boot_factor)
    duration = wishes.get("boot_seconds", drawn)
    unlucky = rng.random() < nature.failure_rate
    if "failure" in wishes:
        doomed = wishes["failure"] is not None
    if doomed if doomed is not None else unlucky:
        return breaks(rng, duration, wishes.get("failure"))
    return boots(rng, duration)
