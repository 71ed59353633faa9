"""A fleet as one JSON document, to be saved and replayed.

Times are kept as seconds from the moment of saving, so that a fleet goes on where it was, whatever the clock
says when it is restored.
"""

from collections.abc import Mapping
from typing import Any, cast

from attrs import asdict, evolve

from ..clock import timestamp
from .account import World
from .boot import Stage, Step
from .config import Nature
from .history import HistoryRow
from .market import Market
from .pods import PodRecord
from .ssh_keys import KeyRing, SSHKey

FORMAT = "primepods-emulator/1"
_POD_TIMES = ("created", "appears", "delete_asked", "gone")
_ROW_TIMES = ("created", "terminated")
_KEY_TIMES = ("created", "updated")

Fields = dict[str, Any]


def dump(world: World, market: Market, keys: KeyRing) -> dict[str, object]:
    """Write everything down; call with the world's lock held."""
    now = world.settle()
    return {
        "format": FORMAT,
        "saved_at": timestamp(world.clock.epoch, now),
        "nature": asdict(world.nature),
        "funds": world.funds,
        "born": world.born,
        "pods": [_pod(record, now) for record in world.living()],
        "buried": [_pod(record, now) for record in world.buried],
        "history": [_moved(asdict(row), _ROW_TIMES, -now) for row in world.history.rows],
        "ssh_keys": [_moved(asdict(key), _KEY_TIMES, -now) for key in keys.keys.values()],
        "stock": dict(market.forced),
    }


def nature_of(saved: Mapping[str, object]) -> Fields:
    """What the saved emulator was like, as arguments for a new one; raises `ValueError` for no snapshot."""
    _check(saved)
    return asdict(Nature(**cast("Fields", saved["nature"])))


def restore(saved: Mapping[str, object], world: World, market: Market, keys: KeyRing) -> None:
    """Replace everything by what was written down; call with the world's lock held.

    Raises `ValueError` for what is no snapshot, and leaves everything as it was.
    """
    _check(saved)
    now = world.clock.now()
    try:
        pods = [_record(cast("Fields", fields), now) for fields in cast("list[object]", saved["pods"])]
        buried = [_record(cast("Fields", fields), now) for fields in cast("list[object]", saved["buried"])]
        rows = [HistoryRow(**_moved(fields, _ROW_TIMES, now)) for fields in cast("Any", saved["history"])]
        ring = [SSHKey(**_moved(fields, _KEY_TIMES, now)) for fields in cast("Any", saved["ssh_keys"])]
        born, funds, stock = (
            int(cast("int", saved["born"])),
            saved["funds"],
            dict(cast("Any", saved["stock"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"this snapshot is damaged: {error!r}"
        raise ValueError(msg) from error
    world.clear()
    world.born, world.funds, world.buried, world.solvent = born, cast("float | None", funds), buried, now
    world.history.extend(rows)
    for record in pods:
        world.enter(record)
    keys.keys.clear()
    keys.keys.update((key.id, key) for key in ring)
    market.forced.clear()
    market.forced.update(stock)


def _check(saved: Mapping[str, object]) -> None:
    if saved.get("format") != FORMAT:
        msg = f"this is no snapshot of an emulator: its format is {saved.get('format')!r}, not {FORMAT!r}"
        raise ValueError(msg)


def _pod(record: PodRecord, now: float) -> Fields:
    fields = asdict(evolve(record, rendered={}))
    del fields["_rendered"]
    return _moved(fields, _POD_TIMES, -now)


def _record(fields: Fields, now: float) -> PodRecord:
    timeline = tuple(
        Step(step["at"], Stage(**step["stage"]), step["progress_to"]) for step in fields["timeline"]
    )
    moved: Fields = {**_moved(fields, _POD_TIMES, now), "timeline": timeline}
    return PodRecord(**moved)


def _moved(fields: Fields, times: tuple[str, ...], seconds: float) -> Fields:
    moved = {name: fields[name] + seconds for name in times if fields[name] is not None}
    return {**fields, **moved}
