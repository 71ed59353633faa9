"""Sweeps, which delete orphaned and expired pods.

A sweep of expired pods finds them, including kept ones, by the expiry in their names. It skips a pod if the
process in its lease file still runs. Any other sweep starts from the lease files and, with a prefix, also
deletes pods without a file. The first row of this table that applies to a file says what happens to it. The
list is read while the file is locked, except in a dry run.

===========================================  ===========================================================
The file cannot be read                      skip; and skip all pods without a file
It belongs to another account                skip
Its process still runs, or may still run     skip
The list shows pods with its unique name,    delete these pods, except a kept one; then remove the file
or its pod was kept
The list shows its id with another name      skip: the pod may be somebody else's
The history shows the end of its pod         remove the file
It has an id                                 delete the pod if ``get`` shows it with the unique name; remove
                                             the file if ``get`` finds nothing and the order is old
It has no id, and the order is recent        search for the unique name for 20 s; delete the pods found, or
                                             report an error if there is none
It has no id, and the order is old           skip
===========================================  ===========================================================

A file is removed only if the list is complete and all pods to delete are confirmed gone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs

from .._utils.concurrency import map_bounded
from .._utils.text import quote
from .._utils.unique_names import expiry_of, is_same_name
from ..config import lease_folder
from ..errors import ConfigError, CreateUncertainError, NotFoundError, PrimePodsError
from ..models import HistoryRecord
from ._lease_record import LeaseRecord, as_time
from .ledger import LeaseFile, Ledger, read_ledger
from .pods_api import (
    APPEARS_WITHIN,
    ListedPod,
    TeamClient,
    confirmed_time,
    find_named,
    has_ended,
    read_ended_pods,
)
from .sweep_results import OrphanedPod, SkippedLease, Sweep

# These durations, in seconds, are our choice; the API documents none.
# Time after a pod's expiry in which its lease may still be deleting it.
_EXPIRED_MARGIN: Final = 900.0
# Max time to confirm that a pod is gone.
_RELEASE_TIMEOUT: Final = 600.0
# Time between two polls of a pod that is being deleted; short, since a user waits at a terminal.
_INTERVAL: Final = 1.0


@attrs.frozen
class _Orphan:
    """The pods of one lease, which are deleted before its file; or one pod without a file.

    Attributes:
        file: The file of the lease, which is locked unless this is a dry run; ``None`` without one.
        pods: The pods; several if a gateway has sent the order twice (imagined), none if only the file must
            be removed.
        is_listed: Whether the list shows the pods, with their names.
    """

    file: LeaseFile | None
    pods: tuple[OrphanedPod, ...]
    is_listed: bool


@attrs.define(kw_only=True)
class Sweeper:
    """One sweep.

    Args:
        client: The client; the leases of other APIs, keys and teams are skipped.
        prefix: Prefix of the pods' names. With it, the sweep also finds pods without a lease file.
        older_than: Min seconds since the pods were ordered, by the server's time.
        expired: Whether to find only pods whose names contain an expiry that has passed.
        only: An earlier sweep; pods that it did not find are left alone.
    """

    client: TeamClient
    prefix: str | None
    older_than: float | None
    expired: bool
    only: Sweep | None
    _skipped: list[SkippedLease] = attrs.field(init=False, factory=list[SkippedLease])
    _claimed: list[LeaseFile] = attrs.field(init=False, factory=list[LeaseFile])
    _unreadable: list[SkippedLease] = attrs.field(init=False, factory=list[SkippedLease])
    _list_error: PrimePodsError | None = attrs.field(init=False, default=None)
    # The server's time. If it is unknown, pods count as just ordered, and may still appear.
    _now: float = attrs.field(init=False, default=-math.inf)

    async def run(self, *, dry_run: bool) -> Sweep:
        """Find orphans, and delete them unless ``dry_run``.

        Raises:
            ConfigError: ``expired`` is not set, and the folder of leases cannot be read.
            PrimePodsError: ``expired`` or ``older_than`` is set, and the server's time is not known.
        """
        before = await asyncio.to_thread(self._read_files)
        if not before and self.prefix is None and not self.expired:
            return Sweep(found=(), skipped=tuple(self._unreadable))
        listed = await self._read_list()
        try:
            consequence = "nothing is deleted, because ages are unknown"
            self._now = await confirmed_time(self.client.pods, self.client.server_clock, consequence)
        except PrimePodsError:
            if self.expired or self.older_than is not None:
                raise
        # A listed pod may have been ordered after the first reading: read the files again. Use both readings:
        # a lease that has ended since has no file now, but the list may show its pod.
        records = await asyncio.to_thread(self._read_files)
        recorded = [*before.values(), *records.values()]
        outcomes: dict[str, PrimePodsError | None] = {}
        try:
            if self.expired:
                orphans = self._find_expired(listed, recorded)
            else:
                orphans = await self._find_recorded(records, dry_run=dry_run)
                if self.prefix is not None and not self._unreadable:
                    orphans += self._find_unrecorded(listed, recorded)
            chosen = [orphan for orphan in orphans if self._is_chosen(orphan)]
            if not dry_run:
                for outcome in await map_bounded(self._delete, chosen, self.client.settings.max_concurrency):
                    outcomes |= outcome
        finally:
            for file in self._claimed:
                file.close()
        errors = {} if self._list_error is None else {"pods.list": self._list_error}
        return Sweep(
            found=tuple(pod for orphan in chosen for pod in orphan.pods),
            deleted=tuple(pod_id for pod_id, error in outcomes.items() if error is None),
            errors=errors | {pod_id: error for pod_id, error in outcomes.items() if error is not None},
            skipped=(*self._unreadable, *self._skipped),
        )

    def _read_files(self) -> dict[Path, LeaseRecord]:
        """Read all lease files; record the unreadable ones.

        Raises:
            ConfigError: The folder cannot be read; not raised by a sweep of expired pods.
        """
        try:
            ledger = read_ledger(lease_folder())
        except (ConfigError, OSError):
            if not self.expired:
                raise
            ledger = Ledger({}, {})
        self._unreadable = [
            SkippedLease(
                name=_as_text(path.name),
                pod_id=None,
                price_hr=None,
                reason=f"{_as_text(path)} cannot be read ({reason}). It may be the record of a pod: repair "
                "or remove it. Until then, pods without a file are deleted only by a sweep of expired pods "
                "(`--expired`, or expired=True)",
            )
            for path, reason in ledger.unreadable.items()
        ]
        return ledger.records

    async def _read_list(self) -> list[ListedPod]:
        listed, error = await self.client.listed().collect()
        self._list_error = self._list_error or error
        return listed

    def _find_expired(self, listed: list[ListedPod], recorded: list[LeaseRecord]) -> list[_Orphan]:
        """Return the pods whose names contain an expiry that has passed; skip those whose process runs."""
        # `has_min_age`, because expired pods are old: a process on another host then counts as ended.
        running = [record for record in recorded if not record.may_be_orphaned(has_min_age=True)]
        found: list[_Orphan] = []
        for row in listed:
            if not self._matches(row.name, row.created_at) or not self._has_expired(row):
                continue
            record = _record_of(row, running)
            if record is None:
                found.append(_listed_orphan(row))
            else:
                process = f"its process {record.pid} still runs: end it, then sweep again"
                self._skip(record, f"it has expired, but {process}")
        return found

    def _find_unrecorded(self, listed: list[ListedPod], recorded: list[LeaseRecord]) -> list[_Orphan]:
        """Return the pods without a file; skip those with an expiry that has not clearly passed."""
        found: list[_Orphan] = []
        for row in listed:
            if not self._matches(row.name, row.created_at) or _record_of(row, recorded) is not None:
                continue
            expires_at = expiry_of(row.name)
            if expires_at is None or self._has_expired(row):
                found.append(_listed_orphan(row))
            else:
                until = f"{as_time(expires_at):%Y-%m-%d %H:%M} UTC"
                self._skip(
                    row,
                    f"the expiry in its name, {until}, is not known to have passed "
                    f"{_EXPIRED_MARGIN / 60:.0f} minutes ago, and no lease file records the pod. "
                    f"Unless it is in use, delete it with `pods.delete({row.id!r})`",
                )
        return found

    def _has_expired(self, row: ListedPod) -> bool:
        expires_at = expiry_of(row.name)
        return expires_at is not None and self._now >= expires_at + _EXPIRED_MARGIN

    async def _find_recorded(self, records: Mapping[Path, LeaseRecord], *, dry_run: bool) -> list[_Orphan]:
        """Lock the files of dead processes; return the orphans that the module's table does not skip."""
        for path, record in records.items():
            if self._matches(record.name, record.ordered_at):
                self._claim(path, record)
        if dry_run:
            # Nothing will be removed: let other sweeps claim the files during the requests.
            for file in self._claimed:
                file.close()
        # Read the list again under the locks: a process may have ordered pods after the earlier reading, and
        # ended before its file was locked.
        listed = await self._read_list() if self._claimed else []
        orphans: list[_Orphan] = []
        ended_pods: list[HistoryRecord] | None = None
        for file in self._claimed:
            record = file.record
            kept_id = record.pod_id if record.is_kept else None
            pods = [row for row in listed if is_same_name(record.name, row.name) and row.id != kept_id]
            other = next((row for row in listed if row.id == record.pod_id), None)
            if pods or record.is_kept:
                found = tuple(OrphanedPod(**_describe(row), created_at=record.ordered_at) for row in pods)
                orphans.append(_Orphan(file, found, is_listed=True))
                continue
            if other is not None:
                shown = "no name" if other.name is None else f"another name, {quote(other.name)}"
                self._skip(
                    record,
                    f"the API shows pod {other.id} with {shown}, so it may belong to somebody else. If the "
                    f"pod is yours, delete it by its id, and remove {file.path}",
                )
                continue
            if ended_pods is None:
                ended_pods = await read_ended_pods(self.client.pods)
            if has_ended(record.name, record.pod_id, ended_pods):
                orphans.append(_Orphan(file, (), is_listed=False))
            elif record.pod_id is None and not self._may_appear(record):
                self._skip(
                    record,
                    "no response has shown its pod, and every sweep searches for its name. If you know that "
                    f"the pod does not exist, remove {file.path}",
                )
            else:
                pod = OrphanedPod(**_describe(record), created_at=record.ordered_at)
                orphans.append(_Orphan(file, (pod,), is_listed=False))
        return orphans

    def _claim(self, path: Path, record: LeaseRecord) -> None:
        """Lock a file if its process has given up or may have ended; skip it otherwise."""
        reason = record.foreign_reason(self.client.settings)
        if reason is None and not record.may_be_orphaned(has_min_age=self.older_than is not None):
            reason = f"its process {record.pid} still runs"
            if record.is_other_host:
                reason = (
                    f"its process may still run: host {record.host} is another machine or container, or was "
                    "restarted. Give a minimum age (`--older-than`, or older_than=)"
                )
        if reason is None:
            try:
                if file := LeaseFile.claim(path):
                    self._claimed.append(file)
                    return
                reason = "its process still runs, or another sweep has locked or removed its file"
            except (OSError, ValueError) as exc:
                reason = f"its file cannot be read ({exc})"
        self._skip(record, reason)

    def _skip(self, lease: LeaseRecord | ListedPod, reason: str) -> None:
        self._skipped.append(SkippedLease(**_describe(lease), reason=reason))

    def _may_appear(self, record: LeaseRecord) -> bool:
        """Return whether the order is so recent that its pod may still appear."""
        return self._now - record.ordered_at.timestamp() < APPEARS_WITHIN

    def _matches(self, name: str | None, since: datetime | None) -> bool:
        """Return whether a pod has the sweep's prefix and age, given its name and the time of its order."""
        if self.prefix is not None and not (name or "").startswith(self.prefix):
            return False
        if self.older_than is None:
            return True
        return since is not None and self._now - since.timestamp() >= self.older_than

    def _is_chosen(self, orphan: _Orphan) -> bool:
        """Return whether the earlier sweep, if any, found every pod of the orphan."""
        if self.only is None:
            return True
        earlier = self.only.found
        return all(any(_is_same(pod, found) for found in earlier) for pod in orphan.pods)

    async def _delete(self, orphan: _Orphan) -> dict[str, PrimePodsError | None]:
        """Delete the pods, then the file; return each pod's error or ``None``, by its id or name."""
        pod_ids = [pod.pod_id for pod in orphan.pods if pod.pod_id is not None]
        if orphan.pods and not pod_ids:
            name = str(orphan.pods[0].name)
            try:
                found, shown = await find_named(self.client.listed, name, self.client.settings.clock)
            except PrimePodsError as exc:
                return {name: exc}
            if not found:
                text = f"It is unknown whether the pod {name!r} exists: {shown}. Sweep again: it may appear."
                return {name: CreateUncertainError(text, name=name)}
            pod_ids = [row.id for row in found]
        outcome = {pod_id: await self._delete_pod(pod_id, orphan) for pod_id in pod_ids}
        # An incomplete list may lack another pod with the unique name.
        if orphan.file is not None and not any(outcome.values()) and self._list_error is None:
            orphan.file.remove()
        return outcome

    async def _delete_pod(self, pod_id: str, orphan: _Orphan) -> PrimePodsError | None:
        """Delete a pod and confirm that it is gone; return the error if that fails."""
        pods = self.client.pods
        try:
            if orphan.is_listed or orphan.file is None or await self._exists(pod_id, orphan.file.record):
                await pods.delete(pod_id, missing_ok=True)
            await pods.wait_gone(pod_id, timeout=_RELEASE_TIMEOUT, interval=_INTERVAL)
        except PrimePodsError as exc:
            return exc
        except ValueError as exc:
            # The id is invalid: the list shows it, or another program has changed the file (both imagined).
            place = "the list" if orphan.file is None or orphan.is_listed else orphan.file.path
            remedy = "Look for the pod by its name, and delete it on the website"
            if orphan.file is not None:
                remedy += f". Then remove {orphan.file.path}"
            return PrimePodsError(f"The pod id in {place} is invalid: {exc} {remedy}.")
        return None

    async def _exists(self, pod_id: str, record: LeaseRecord) -> bool:
        """Return whether `get` shows a recorded pod that the list does not show.

        Raises:
            PrimePodsError: The pod has another name, may still appear, or cannot be read.
        """
        try:
            pod = await self.client.pods.get(pod_id)
        except NotFoundError as exc:
            if not self._may_appear(record):
                return False
            text = "Its pod may still appear, since the order is recent or its age is unknown: sweep again in"
            exc.add_note(f"{text} {APPEARS_WITHIN / 60:.0f} minutes.")
            raise
        if not is_same_name(record.name, pod.name):
            raise PrimePodsError(f"Pod {pod_id} is not deleted, because its name is not {record.name}.")
        return True


def _describe(lease: LeaseRecord | ListedPod) -> dict[str, Any]:
    """Return the fields that the results of a sweep have in common."""
    pod_id = lease.pod_id if isinstance(lease, LeaseRecord) else lease.id
    return {"name": lease.name, "pod_id": pod_id, "price_hr": lease.price_hr}


def _record_of(row: ListedPod, records: list[LeaseRecord]) -> LeaseRecord | None:
    """Return the first record with the pod's id or unique name."""
    return next((old for old in records if old.pod_id == row.id or is_same_name(old.name, row.name)), None)


def _listed_orphan(row: ListedPod) -> _Orphan:
    pod = OrphanedPod(**_describe(row), created_at=row.created_at)
    return _Orphan(None, (pod,), is_listed=True)


def _is_same(pod: OrphanedPod, other: OrphanedPod) -> bool:
    """Compare two pods by id, or by name if an id is unknown."""
    if pod.pod_id and other.pod_id:
        return pod.pod_id == other.pod_id
    return pod.name == other.name


def _as_text(path: object) -> str:
    """Return a path as text that can be printed, even if it has bytes that are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()
