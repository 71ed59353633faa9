"""Snapshots of an account as JSON.

Times are relative to the moment of saving, so that a restored fleet continues where it was, on any clock.
Most keys are names of attributes, so renaming an attribute breaks older snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import attrs

from ..clock import timestamp
from .account import Account
from .boot import Stage, Step
from .config import EmulatorConfig
from .disks import DiskRecord
from .history import HistoryRow
from .pods import PodRecord
from .ssh_keys import SSHKey

FORMAT = "primepods-emulator/1"
_TIMES: dict[type, tuple[str, ...]] = {
    # Times of a timeline are ages of the pod, so they are not shifted.
    PodRecord: ("created", "appears", "delete_asked", "delete_lost", "gone"),
    HistoryRow: ("created", "terminated"),
    DiskRecord: ("created", "updated", "ready", "delete_asked", "gone"),
    SSHKey: ("created", "updated"),
}

T = TypeVar("T")
Fields = dict[str, Any]


def dump(account: Account) -> dict[str, object]:
    """Return the account as JSON, without API keys."""
    with account.lock:
        now = account.catch_up()
        return {
            "format": FORMAT,
            "saved_at": timestamp(account.clock.epoch, now),
            "config": attrs.asdict(account.config),
            "funds": account.funds,
            "created_count": account.created_count,
            "pods": [_dump(record, now) for record in account.existing()],
            "terminated": [_dump(record, now) for record in account.terminated],
            "history": [_dump(row, now) for row in account.history],
            "ssh_keys": [_dump(key, now) for key in account.keys.by_id.values()],
            "disks": [_dump(disk, now) for disk in account.disks],
            "ended_disks": sorted(account.ended_disks),
            "stock": dict(account.market.capacities),
            "prices": dict(account.market.prices),
        }


def config_of(saved: Mapping[str, object]) -> Fields:
    """Return the saved settings as arguments of ``Emulator``."""
    _check_format(saved)
    try:
        return attrs.asdict(EmulatorConfig(**cast("Fields", saved["config"])))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged_error(error) from error


def restore(account: Account, saved: Mapping[str, Any]) -> None:
    """Replace the account's state, as if no time had passed since the snapshot."""
    _check_format(saved)
    restored = Account(account.config, account.clock)
    now = account.clock.now()
    try:
        restored.created_count = int(saved["created_count"])
        restored.funds = saved["funds"]
        restored.terminated.extend(_load_pod(fields, now) for fields in saved["terminated"])
        restored.history.extend(_load(HistoryRow, fields, now) for fields in saved["history"])
        for fields in saved["pods"]:
            restored.add(_load_pod(fields, now))
        keys = [_load(SSHKey, fields, now) for fields in saved["ssh_keys"]]
        restored.keys.by_id.update((key.id, key) for key in keys)
        restored.disks.extend(_load(DiskRecord, fields, now) for fields in saved["disks"])
        restored.ended_disks.update(saved["ended_disks"])
        restored.market.capacities.update(saved["stock"])
        restored.market.prices.update(saved["prices"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged_error(error) from error
    with account.lock:
        account.copy_state(restored)


def _check_format(saved: Any) -> None:
    # A file may hold any JSON.
    fields = cast("Fields", saved) if isinstance(saved, Mapping) else {}
    found = fields.get("format")
    if found != FORMAT:
        raise ValueError(f"this is not a snapshot of an emulator: its format is {found!r}, not {FORMAT!r}")


def _damaged_error(cause: Exception) -> ValueError:
    return ValueError(f"this snapshot is damaged: {cause!r}")


def _dump(record: attrs.AttrsInstance, now: float) -> Fields:
    # Leave out the pods' cached rows, whose names begin with an underscore.
    fields = attrs.asdict(record, filter=lambda attribute, _: not attribute.name.startswith("_"))
    return _shift_times(fields, type(record), -now)


def _load(kind: type[T], fields: Fields, now: float) -> T:
    return kind(**_shift_times(fields, kind, now))


def _load_pod(fields: Fields, now: float) -> PodRecord:
    timeline = tuple(
        Step(step["at"], Stage(**step["stage"]), step["progress_to"]) for step in fields["timeline"]
    )
    return _load(PodRecord, {**fields, "timeline": timeline}, now)


def _shift_times(fields: Fields, kind: type, seconds: float) -> Fields:
    """Return the fields with ``seconds`` added to the times."""
    moved = {name: fields[name] + seconds for name in _TIMES[kind] if fields.get(name) is not None}
    return {**fields, **moved}
