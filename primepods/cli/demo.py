"""`primepods demo`: a fleet of emulated pods that costs nothing."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import primepods
from primepods._utils.money import money

from ._shared.errors import reported_errors
from ._shared.options import option
from ._shared.table import Column
from .emulator import FailureRate, Seed

if TYPE_CHECKING:
    from primepods import AsyncClient, Pod, PodStatus
    from primepods.emulator import Emulator

    from ._shared.screen import Screen

BOOT_SECONDS = 180.0
MAX_BOOT_FACTOR = 3
"""Longest emulated boot, as a multiple of `BOOT_SECONDS`."""
EXTRA_TIMEOUT = 30.0
"""Real seconds to wait in addition to the longest boot."""
INTERVAL = 0.25
"""Real seconds between two polls."""
MAX_EXAMPLES = 5
"""Max number of ready pods to delete."""
_FLEET_COLUMNS = (
    Column("STATE", min_width=20),
    Column("PODS", right=True),
    Column("GPUS", right=True),
    Column("PRICE/H", right=True),
    Column("FOR EXAMPLE", min_width=12),
)


def command(
    *,
    pods: Annotated[int, option("Number of pods.", "NUMBER", min=1, max=5_000)] = 500,
    speed: Annotated[
        float,
        option(
            "Emulated seconds per real second; a boot takes a few emulated minutes.",
            "NUMBER",
            min=1,
            max=1_000,
        ),
    ] = 60.0,
    seed: Seed = 7,
    failure_rate: FailureRate = 0.04,
) -> None:
    """Watch emulated pods boot, fail and be deleted, without an account or costs."""
    import asyncio

    from primepods.emulator import Emulator

    from ._shared.screen import Screen

    screen = Screen()
    account: dict[str, Any] = {
        "pods": pods,
        "seed": seed,
        "failure_rate": failure_rate,
        "boot_seconds": BOOT_SECONDS,
        "speed": speed,
    }
    timeout = BOOT_SECONDS * MAX_BOOT_FACTOR / speed + EXTRA_TIMEOUT
    with reported_errors("primepods demo"):
        asyncio.run(_run(Emulator(**account), screen, timeout))
    _show_next_steps(screen, account)


async def _run(emulator: Emulator, screen: Screen, timeout: float) -> None:
    async with emulator, primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client:
        screen.say(f"primepods {primepods.__version__} on an emulated API at {emulator.url}", style="bold")
        screen.heading("Listing the pods: client.pods.list()")
        pods: dict[str, Pod] = {}
        with screen.meter("listed") as update:
            async for page in client.pods.list().pages():
                pods |= {pod.id: pod for pod in page}
                update(len(pods), page.total_count)
        statuses = await _settle(client, pods, screen, timeout)
        _show_fleet(screen, pods, statuses)
        screen.heading("Deleting the failed pods and a few ready pods: client.pods.delete_many(ids)")
        failed = [pod_id for pod_id, row in statuses.items() if row.has_failed]
        ready = [pod_id for pod_id, row in statuses.items() if row.is_ready][:MAX_EXAMPLES]
        deleted = await client.pods.delete_many(failed + ready)
        deleted.raise_for_errors()
        screen.say(f"{len(failed)} failed and {len(ready)} ready pods: all {len(deleted)} deletions accepted")
        await client.pods.wait(deleted, until=primepods.gone, timeout=timeout, interval=INTERVAL)
        screen.say(f"All are confirmed gone. The demo has sent {len(emulator.requests)} requests.")


async def _settle(
    client: AsyncClient, pods: Iterable[str], screen: Screen, timeout: float
) -> Mapping[str, PodStatus]:
    from primepods.fleet import Condition, Fleet

    screen.heading(
        "Waiting until each pod is ready or has failed: client.pods.wait(ids, until=primepods.settled)"
    )

    def note(fleet: Fleet) -> str:
        ready, failed = fleet.counts.get(Condition.READY, 0), fleet.counts.get(Condition.FAILED, 0)
        return f"{ready} ready, {failed} failed, {len(fleet) - ready - failed} to go"

    with screen.pod_meter("settled", pods, primepods.settled, note) as on_change:
        return await client.pods.wait(
            pods,
            until=primepods.settled,
            timeout=timeout,
            interval=INTERVAL,
            on_change=on_change,
            # The demo's pods do not recover from a failed installation.
            install_grace=0.0,
        )


def _show_fleet(screen: Screen, pods: Mapping[str, Pod], statuses: Mapping[str, PodStatus]) -> None:
    groups: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod_id, row in statuses.items():
        groups[row.failure or "ready"].append(pods[pod_id])
    screen.heading("The fleet")
    screen.table(
        _FLEET_COLUMNS,
        [(state, *_amounts(group), group[0].name or "") for state, group in sorted(groups.items())],
        total=("all", *_amounts(pods.values()), ""),
    )


def _amounts(pods: Collection[Pod]) -> tuple[str, str, str]:
    """Return three cells: the number of pods, the number of their GPUs, and their total price per hour."""
    return (
        f"{len(pods):,}",
        f"{sum(pod.gpu_count for pod in pods if pod.has_gpu('*')):,}",
        money(sum(pod.price_hr for pod in pods)),
    )


def _show_next_steps(screen: Screen, account: Mapping[str, Any]) -> None:
    program = "primepods" if shutil.which("primepods") else f"{shlex.quote(sys.executable)} -m primepods"
    # The options that decide which pods there are, so that the command fits into a line.
    options = " ".join(f"--{name} {account[name]:g}" for name in ("pods", "seed", "speed"))
    screen.say()
    screen.say(f"Watch the same {account['pods']:,} pods while they boot, until Ctrl-C:")
    screen.say(f"{program} emulator {options} -- {program} watch", style="bold")
    screen.say("Or rent an emulated pod for one command:")
    screen.say(f"{program} emulator --boot-seconds 3 -- {program} run --gpu-type H100 -- nproc", style="bold")
