"""Sweeps: delete the pods that dead processes have left, by lease files or by names."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from .._utils.concurrency import map_bounded
from .._utils.text import quote
from .._utils.unique_names import expiry_of, is_same_name
from ..errors import ConfigError, PrimePodsError
from ..models import HistoryRecord, Pod
from ._lease_file import LeaseFile
from ._orphan import Orphan
from ._record import LeaseRecord, as_time, fingerprint
from .account import Account
from .ledger import Ledger, read_ledger, remove_broken_drafts
from .pods_api import read_ended_pods
from .server_time import confirmed_time
from .sweep import OrphanedPod, SkippedLease, Sweep

_EXPIRED_MARGIN: Final = 900.0
"""Seconds after its expiry in which a pod's own lease may still delete it."""
_LIST: Final = "pods.list"


class Sweeper:
    """Finder and deleter of orphaned pods.

    Args:
        account: The account: leases of other APIs, keys and teams are skipped.
        prefix: Only pods whose names begin with it; these need no lease file.
        older_than: Only pods that were ordered at least this many seconds ago, by the server's time.
        expired: Only pods whose unique names say that they have expired.
        only: An earlier sweep; only pods that it has found.
    """

    def __init__(
        self,
        account: Account,
        *,
        prefix: str | None,
        older_than: float | None,
        expired: bool,
        only: Sweep | None,
    ) -> None:
        self._account = account
        self._pods = account.pods
        self._settings = account.settings
        self._folder = account.folder
        self._prefix = prefix
        self._older_than = older_than
        self._expired = expired
        self._only = only
        self._skipped: list[SkippedLease] = []
        self._ended: list[Orphan] = []
        self._claimed: list[LeaseFile] = []
        self._are_files_readable = True
        self._now = -math.inf
        """The server's time; ``-inf`` if unknown: pods then count as just ordered, and may still appear."""

    async def run(self, *, dry_run: bool) -> Sweep:
        """Find orphans, and delete them unless ``dry_run``.

        Raises:
            ConfigError: The folder of leases cannot be read.
            ProtocolError: Ages matter, and the server's time is not confirmed.
        """
        before = await asyncio.to_thread(self._read_files)
        if not before and self._prefix is None and not self._expired:
            return Sweep(found=(), skipped=tuple(self._skipped))
        listed, list_error = await self._pods.list().collect()
        await self._read_time()
        # Read the files again: a listed pod may have been ordered after the first reading, which still
        # counts: a lease that has ended since has no file any more, though its pod may be listed.
        records = await asyncio.to_thread(self._read_files)
        try:
            orphans = await self._find_orphans(before, records, listed, is_complete=list_error is None)
            chosen = [orphan for orphan in orphans if self._is_chosen(orphan)]
            outcomes = {} if dry_run else await self._delete(chosen)
        finally:
            for file in self._claimed:
                file.close()
        errors = {pod_id: error for pod_id, error in outcomes.items() if error is not None}
        return Sweep(
            found=tuple(pod for orphan in chosen for pod in orphan.pods),
            deleted=tuple(pod_id for pod_id, error in outcomes.items() if error is None),
            errors=errors if list_error is None else {_LIST: list_error, **errors},
            skipped=tuple(self._skipped),
        )

    def _read_files(self) -> dict[Path, LeaseRecord]:
        """Read all lease files; note unreadable ones.

        Raises:
            ConfigError: The folder cannot be read, and is needed.
        """
        try:
            remove_broken_drafts(self._folder, self._settings.clock.wall())
            ledger = read_ledger(self._folder)
        except (ConfigError, OSError):
            if not self._expired:
                raise
            # An expired pod is recognised by its name alone.
            ledger = Ledger({}, {})
        self._are_files_readable = not ledger.unreadable
        self._skipped = [
            SkippedLease(
                name=_as_text(path.name),
                pod_id=None,
                price_hr=None,
                reason=f"{_as_text(path)} cannot be read ({reason}): check whether it names a pod. Until "
                "then, no pod without a file is deleted, unless it has expired",
            )
            for path, reason in ledger.unreadable.items()
        ]
        return ledger.records

    async def _read_time(self) -> None:
        """Read the server's time.

        Raises:
            ProtocolError: Ages matter, and the server's time is not confirmed.
        """
        try:
            self._now = await confirmed_time(
                self._pods,
                self._account.server_clock,
                self._settings.clock,
                consequence="nothing is deleted, because ages are unknown",
            )
        except PrimePodsError:
            if self._expired or self._older_than is not None:
                raise

    async def _find_orphans(
        self,
        before: Mapping[Path, LeaseRecord],
        records: Mapping[Path, LeaseRecord],
        listed: list[Pod],
        *,
        is_complete: bool,
    ) -> list[Orphan]:
        """Return the orphans that the sweep's arguments select.

        Args:
            before: Lease files, read before the list.
            records: Lease files, read after the list.
            listed: The listed pods.
            is_complete: Whether the whole list could be read.
        """
        recorded = [*before.values(), *records.values()]
        if self._expired:
            return self._find_expired(listed, recorded)
        orphans = await self._find_recorded(records, listed, is_complete=is_complete)
        if self._prefix is not None and self._are_files_readable:
            orphans += self._find_unrecorded(listed, recorded)
        return orphans

    def _find_expired(self, listed: Iterable[Pod], recorded: list[LeaseRecord]) -> list[Orphan]:
        """Return the pods whose names say that they have expired; skip those whose processes live."""
        # `has_min_age`, because expired pods are old: a process on another host then counts as dead.
        living_leases = [record for record in recorded if not record.may_be_orphaned(has_min_age=True)]
        orphans: list[Orphan] = []
        for pod in listed:
            expires_at = expiry_of(pod.name)
            if expires_at is None or not self._is_past(expires_at):
                continue
            if not self._matches(pod.name, pod.created_at):
                continue
            lease = next((record for record in living_leases if _names_pod(record, pod)), None)
            if lease is None:
                orphans.append(Orphan.without_file(pod))
            else:
                self._skip(
                    lease, f"it has expired, but its process {lease.pid} lives: end it, then sweep again"
                )
        return orphans

    def _find_unrecorded(self, listed: Iterable[Pod], recorded: list[LeaseRecord]) -> list[Orphan]:
        """Return the pods without a file; skip those whose names say that their leases still last."""
        orphans: list[Orphan] = []
        for pod in listed:
            if not self._matches(pod.name, pod.created_at):
                continue
            if any(_names_pod(record, pod) for record in recorded):
                continue
            expires_at = expiry_of(pod.name)
            if expires_at is None or self._is_past(expires_at):
                orphans.append(Orphan.without_file(pod))
            else:
                until = as_time(expires_at)
                self._skip(pod, f"its name says that its lease, on another machine, lasts until {until}")
        return orphans

    def _is_past(self, expires_at: float) -> bool:
        """Return whether a pod has expired so long ago that its own lease should have deleted it."""
        return self._now >= expires_at + _EXPIRED_MARGIN

    async def _find_recorded(
        self, records: Mapping[Path, LeaseRecord], listed: list[Pod], *, is_complete: bool
    ) -> list[Orphan]:
        """Return the leases of dead processes whose pods run, or may run."""
        found: list[Orphan] = []
        unlisted: list[Orphan] = []
        for orphan in self._claim_all(records):
            orphan.set_listed([pod for pod in listed if orphan.owns(pod)])
            if orphan.is_listed:
                found.append(orphan)
            elif not self._skip_renamed(orphan, listed):
                unlisted.append(orphan)
        ended = await read_ended_pods(self._pods) if unlisted else []
        for orphan in unlisted:
            if self._may_run(orphan, ended, is_complete=is_complete):
                orphan.set_unlisted()
                found.append(orphan)
        return found

    def _claim_all(self, records: Mapping[Path, LeaseRecord]) -> list[Orphan]:
        """Lock the files of dead processes, and return their leases; skip the others."""
        orphans: dict[str, Orphan] = {}
        for path, record in records.items():
            if not self._matches(record.name, record.ordered_at):
                continue
            claimed = self._claim(path, record)
            if isinstance(claimed, str):
                self._skip(record, claimed)
                continue
            self._claimed.append(claimed)
            age = self._now - record.ordered_at.timestamp()
            orphan = Orphan(record.name, record.ordered_at, age)
            orphans.setdefault(record.name, orphan).files.append(claimed)
        return list(orphans.values())

    def _claim(self, path: Path, record: LeaseRecord) -> LeaseFile | str:
        """Return the locked file of a dead process, or the reason to skip it."""
        reason = self._reason_to_skip(record)
        if reason is not None:
            return reason
        try:
            return LeaseFile.claim(path) or "its process lives, or another sweep has locked its file"
        except (OSError, ValueError) as exc:
            return f"its file cannot be opened: {exc}"

    def _reason_to_skip(self, record: LeaseRecord) -> str | None:
        """Return why a lease is left alone; ``None`` if its process may have ended."""
        # Under another key, or for another team, a 404 would prove nothing.
        if record.base_url != self._settings.base_url:
            return f"it was rented at {record.base_url}"
        if record.key_fingerprint != fingerprint(self._settings):
            return "it was rented with another API key"
        if record.team_id != self._settings.team_id:
            team = "without a team" if record.team_id is None else f"of team {record.team_id}"
            return f"it is {team}: sweep with a client of that team_id"
        if record.may_be_orphaned(has_min_age=self._older_than is not None):
            return None
        if record.is_other_host:
            return (
                f"it cannot be seen whether its process lives: host {record.host} is another machine or "
                "container, or was restarted. Give an age (older_than)"
            )
        return f"its process {record.pid} lives"

    def _skip(self, lease: LeaseRecord | Pod, reason: str) -> None:
        skipped = SkippedLease(
            name=str(lease.name), pod_id=lease.pod_id, price_hr=lease.price_hr, reason=reason
        )
        self._skipped.append(skipped)

    def _skip_renamed(self, orphan: Orphan, listed: list[Pod]) -> bool:
        """Skip a lease whose pod is listed with another name; return whether it is."""
        pod = next((pod for pod in listed if orphan.has_id_of(pod)), None)
        if pod is None:
            return False
        self._skip(
            orphan.record,
            f"the API shows pod {pod.id} with another name, {quote(pod.name)}: it may be somebody else's. If "
            f"it is not, delete it by its id, and remove {orphan.files[0].path}",
        )
        return True

    def _may_run(self, orphan: Orphan, ended: list[HistoryRecord], *, is_complete: bool) -> bool:
        """Return whether an unlisted pod may run or appear; otherwise note its end, or skip its lease."""
        if orphan.has_ended(ended):
            self._ended.append(orphan)
            return False
        if orphan.is_refused:
            if orphan.must_have_appeared and is_complete:
                self._ended.append(orphan)
            else:
                self._skip(
                    orphan.record,
                    "its order was refused, and no pod has appeared. One still may, if a gateway has sent "
                    "the order twice: sweep again, at the earliest ten minutes after the order",
                )
            return False
        if orphan.pod_id is None and orphan.must_have_appeared:
            self._skip(
                orphan.record,
                "nothing has ever shown whether its pod exists, and each sweep looks for its name. If you "
                f"know that it does not, remove {orphan.files[0].path}",
            )
            return False
        return True

    def _matches(self, name: str | None, since: datetime | None) -> bool:
        """Return whether a pod of this name, ordered at that time, has the sweep's prefix and age."""
        if self._prefix is not None and not (name or "").startswith(self._prefix):
            return False
        if self._older_than is None:
            return True
        return since is not None and self._now - since.timestamp() >= self._older_than

    def _is_chosen(self, orphan: Orphan) -> bool:
        """Return whether the earlier sweep, if any, found every pod of the orphan."""
        if self._only is None:
            return True
        earlier = self._only.found
        return all(any(_is_same(pod, found) for found in earlier) for pod in orphan.pods)

    async def _delete(self, orphans: list[Orphan]) -> dict[str, PrimePodsError | None]:
        """Delete orphans and the files of ended pods; return each error or ``None``, by id or by name."""
        for orphan in self._ended:
            orphan.remove_files()
        limit = self._settings.max_concurrency
        outcomes = await map_bounded(lambda orphan: orphan.delete(self._account), orphans, limit)
        return {pod_id: error for outcome in outcomes for pod_id, error in outcome.items()}


def _is_same(pod: OrphanedPod, other: OrphanedPod) -> bool:
    """Compare two pods by id, or by name if an id is unknown."""
    if pod.pod_id and other.pod_id:
        return pod.pod_id == other.pod_id
    return pod.name == other.name


def _as_text(path: object) -> str:
    """Return a path as text that can be printed: a path may contain bytes that are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()


def _names_pod(record: LeaseRecord, pod: Pod) -> bool:
    """Return whether a file names a pod, by its id or its unique name."""
    return record.pod_id == pod.id or is_same_name(record.name, pod.name)
