"""An emulated API and a client on one clock that needs no waiting, and a folder for the files of leases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import attrs

import primepods
from primepods import PodSpec
from primepods._utils.unique_names import UniqueName, unique_name
from primepods.emulator import Emulator
from primepods.leasing._lease_record import LeaseRecord
from primepods.leasing.ledger import read_ledger
from tests.support.client import make_client
from tests.support.clock import ManualClock


def spec_of(offers: Any) -> PodSpec:
    """What is ordered: the first machine that can be had."""
    row = next(row for row in offers["items"] if row["stockStatus"] == "Available" and not row["isSpot"])
    return PodSpec(
        cloud_id=row["cloudId"],
        gpu_type=row["gpuType"],
        socket=row["socket"],
        gpu_count=row["gpuCount"],
        provider=row["provider"],
        max_price=99.0,
    )


def lease_files(folder: Path) -> list[tuple[Path, LeaseRecord]]:
    """The files of leases, and what they say."""
    return list(read_ledger(folder).records.items())


def name_of(number: int = 0, beginning: str = "theirs") -> UniqueName:
    """A unique name, the same for the same arguments."""
    return unique_name(beginning, Random(f"{beginning} {number}").random)


class SharedClock:
    """The client's clock, for the emulator."""

    def __init__(self, clock: ManualClock) -> None:
        self.epoch = datetime.fromtimestamp(clock.wall(), UTC)
        self._clock = clock

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock.elapsed

    async def sleep(self, seconds: float) -> None:
        """Sleep as the client does."""
        await self._clock.sleep(seconds)


@attrs.frozen
class Stage:
    """What a test of leases needs."""

    clock: ManualClock
    emulator: Emulator
    client: primepods.AsyncClient
    folder: Path
    spec: PodSpec

    def running(self) -> list[str]:
        """Ids of the pods that are billed and not on their way out."""
        return [
            pod_id
            for pod_id, pod in self.emulator.pods.items()
            if pod.status not in {"DELETING", "TERMINATED"}
        ]

    def records(self) -> list[LeaseRecord]:
        """What the files of leases say."""
        return [record for _, record in lease_files(self.folder)]

    def orders(self) -> int:
        """How many orders the emulator has received."""
        return len(self.emulator.requests.where(method="POST"))


@asynccontextmanager
async def stage(
    folder: Path, *, seed: int = 0, options: dict[str, Any] | None = None, **fleet: Any
) -> AsyncIterator[Stage]:
    """Set it up; `PRIMEPODS_STATE_DIR` has to name the folder."""
    clock = ManualClock(auto=True, chance=Random(f"chance {seed}"))
    fleet = {"boot_seconds": 60.0, "delete_seconds": 20.0, **fleet}
    async with (
        Emulator(seed=seed, clock=SharedClock(clock), **fleet) as emulator,
        make_client(emulator.url, clock=clock, api_key=emulator.api_key, **(options or {})) as client,
    ):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        yield Stage(clock, emulator, client, folder, spec)
