"""What must hold in every world, whatever its story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs

from primepods._utils.unique_names import expiry_of, is_unique

from .trace import check_trace

if TYPE_CHECKING:
    from .world import World


class BrokenInvariantError(AssertionError):
    """An invariant that does not hold.

    Args:
        invariant: The invariant.
        detail: What was seen instead.
    """

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant: str = invariant


@attrs.frozen
class Use:
    """The use of a pod.

    Attributes:
        user: Who uses it.
        is_for_good: Whether the pod stays when its user's machine stops.
    """

    user: str
    is_for_good: bool = attrs.field(default=False, kw_only=True)


def check_pods(world: World) -> None:
    """Check, when all calls have ended, that used pods run, and that somebody was told of all others."""
    for pod_id in world.uses:
        world.check_running(pod_id)
    known = " ".join([*world.told, *(_files(world))])
    for pod_id, name in billed(world).items():
        if pod_id in world.uses or expiry_of(name) is not None:
            continue
        if pod_id not in known and name not in known:
            raise BrokenInvariantError("nothing billed that nobody was told of", f"{pod_id} {name}")


def check_swept(world: World, spent: float) -> None:
    """Check, after all sweeps, that used pods run, and that only they are billed.

    Args:
        world: The world.
        spent: The cost of all pods an hour ago.
    """
    for pod_id in world.uses:
        world.check_running(pod_id)
    bills = billed(world)
    expected = {*world.uses, *world.doubtful}
    left = {pod_id: name for pod_id, name in bills.items() if pod_id not in expected and _is_leased(name)}
    if left:
        raise BrokenInvariantError("a sweep finds what is left", str(left))
    names = [name for name in bills.values() if is_unique(name)]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise BrokenInvariantError("at most one pod an order stays", str(twins))
    hourly = sum(world.emulator.pods[pod_id].price_hr or 0.0 for pod_id in bills)
    if world.emulator.spent - spent > hourly * 1.1 + 0.01:
        raise BrokenInvariantError("only what runs is billed", f"{world.emulator.spent - spent} > {hourly}")


def _is_leased(name: str) -> bool:
    """Return whether a name is that of a lease: other orders have the user's name, or one of the client's."""
    return name.startswith(("agent-", "train-")) and is_unique(name)


def billed(world: World) -> dict[str, str]:
    """Return the names of the pods that exist and are not being deleted, hidden ones too."""
    rows = cast("list[dict[str, Any]]", world.emulator.snapshot()["pods"])
    return {row["id"]: str(row["name"]) for row in rows if row["gone"] is None}


def _files(world: World) -> list[str]:
    """Return the content of all files of leases."""
    return [
        path.read_text(errors="replace")
        for machine in world.machines
        for path in machine.disk.folder.iterdir()
        if path.is_file()
    ]


def check_traces(world: World) -> None:
    """Check that the model of leases allows what each client has done."""
    for events in world.traces:
        try:
            check_trace(events)
        except AssertionError as exc:
            raise BrokenInvariantError("leases follow the model", str(exc)) from None
