"""Records of pods, and the state of a pod at a given time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypedDict

import attrs

from .boot import DELETING, Stage, Timeline, stage_at

_FIRST_ADDRESS = int.from_bytes(bytes([198, 18, 0, 0]), "big")
_ADDRESS_COUNT = 2**17
"""Size of the block 198.18.0.0/15, which is reserved for benchmarks."""
MAX_NODES = 8


@attrs.frozen(kw_only=True)
class EmulatedPod:
    """State of a pod at one time; a value of ``Emulator.pods``."""

    id: str
    name: str
    status: str
    installation_status: str
    installation_progress: int | None
    installation_failure: str | None
    provider: str
    gpu_name: str
    gpu_count: int
    """Total GPUs of all nodes."""
    price_hr: float
    nodes: int
    addresses: tuple[str, ...]
    """Addresses of the nodes, including those that have not booted yet."""
    spot: bool
    team_id: str | None
    team_member_ids: tuple[str, ...]
    """Ids of the team members with whom the pod is shared."""
    shared_with_team: bool
    prepaid_hours: float
    """Hours charged with the order, used or not."""


@attrs.define(kw_only=True, eq=False)
class PodRecord:
    """Stored data of a pod, from which ``stage`` is computed.

    Times are seconds on the emulator's clock, and may be in the future. The names of the attributes are keys
    of snapshots.
    """

    id: str
    number: int
    """Sequence number of the pod, in the order of creation."""
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
    offer: str | None = None
    """The offer's cloud id, for ordered pods."""
    spot: bool = False
    staggered: bool = False
    """``True`` if the nodes get their addresses one after another."""
    disk_ids: list[str] = attrs.field(factory=list[str])
    disk_sizes: dict[str, int] = attrs.field(factory=dict[str, int])
    """Sizes in GB, by disk id."""
    team_member_ids: list[str] = attrs.field(factory=list[str])
    shared_with_team: bool = False
    prepaid_hours: float = 0.0
    dead_gpus: int = 0
    """Number of GPUs that do not respond to ``nvidia-smi`` on the pod."""
    appears: float = 0.0
    """Time from which list, get and status return the pod."""
    delete_asked: float | None = None
    delete_lost: float | None = None
    """Time at which the provider forgets the deletion; the pod then continues as before."""
    gone: float | None = None
    """Time at which the pod leaves list, get and status."""
    pod_fields: dict[str, object] = attrs.field(factory=dict[str, object])
    """Fields that override those of list and get."""
    status_fields: dict[str, object] = attrs.field(factory=dict[str, object])
    """Fields that override those of status."""
    _cached_rows: dict[str, tuple[Stage, bytes]] = attrs.field(factory=dict[str, tuple[Stage, bytes]])

    def is_deleting(self, now: float) -> bool:
        if self.delete_asked is None or now < self.delete_asked:
            return False
        return self.delete_lost is None or now < self.delete_lost

    def stage(self, now: float) -> Stage:
        if self.delete_asked is None or not self.is_deleting(now):
            return stage_at(self.timeline, now - self.created)
        age = self.delete_asked - self.created
        return attrs.evolve(stage_at(self.timeline, age), status=DELETING, addressed=False, since=age)

    def cached_row(self, kind: str, now: float, render: Callable[[Stage], bytes]) -> bytes:
        """Return the row of ``kind`` ("pod" or "status"); call ``render`` only if the stage has changed."""
        stage = self.stage(now)
        cached = self._cached_rows.get(kind)
        if cached is not None:
            cached_stage, body = cached
            # Comparing the identity first is faster.
            if cached_stage is stage or cached_stage == stage:
                return body
        body = render(stage)
        self._cached_rows[kind] = stage, body
        return body

    def addresses(self) -> list[str]:
        first = self.number * MAX_NODES + 1
        numbers = [_FIRST_ADDRESS + index % _ADDRESS_COUNT for index in range(first, first + self.nodes)]
        return [socket.inet_ntoa(number.to_bytes(4, "big")) for number in numbers]

    def state_at(self, now: float) -> EmulatedPod:
        stage = self.stage(now)
        return EmulatedPod(
            id=self.id,
            name=self.name,
            status=stage.status,
            installation_status=stage.installation,
            installation_progress=stage.progress,
            installation_failure=stage.failure,
            provider=self.provider,
            gpu_name=self.gpu_name,
            gpu_count=self.gpu_count,
            price_hr=self.price_hr,
            nodes=self.nodes,
            addresses=tuple(self.addresses()),
            spot=self.spot,
            team_id=self.team_id,
            team_member_ids=tuple(self.team_member_ids),
            shared_with_team=self.shared_with_team,
            prepaid_hours=self.prepaid_hours,
        )


class PodOverrides(TypedDict, total=False):
    """Values that ``Emulator.add_pod`` can set. Missing ones are drawn from the seed, or have a default."""

    id: str
    provider: str
    gpu_name: str
    gpu_count: int
    """Total GPUs of all nodes."""
    socket: str
    price_hr: float
    image: str
    nodes: int
    """Number of nodes, up to 8; with more than one, ``ip`` and ``sshConnection`` are lists."""
    staggered: bool
    """``True`` if nodes get addresses one by one during installation; missing addresses are null."""
    team_id: str | None
    boot_seconds: float
    """Exact seconds from creation to ready; with 0, the pod is ready at once."""
    failure: str | None
    """Text of the ERROR in which the boot ends; ``None`` for a boot that succeeds."""
    retries: int
    """Number of failed installations before one succeeds; ignored if the boot takes 0 s or fails."""
    spot: bool
    vanish_seconds: float | None
    """Seconds from creation until the provider removes the pod without notice; ``None`` for never."""
    dead_gpus: int
    """Number of GPUs that do not respond to ``nvidia-smi`` on the pod."""
    appear_seconds: float
    """Seconds for which the pod is missing from list, get and status."""
    pod_fields: dict[str, object]
    """Fields that override those of the pod in list and get, to make unusual responses."""
    status_fields: dict[str, object]
    """Fields that override those of the pod in status."""
