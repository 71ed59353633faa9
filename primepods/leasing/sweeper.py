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
from .pods_api import ended_pods
from .server_time import confirmed_time
from .sweep import OrphanedPod, SkippedLease, Sweep

_EXPIRED_MARGIN: Final = 900.0
"""Seconds after its expiry in which a pod's own lease may still delete it."""
_LIST: Final = "pods.list"


class Sweeper:
    """Finder and deleter of orphaned pods.

    Args:
        account: The account: leases of other APIs, keys and teams are skipped.
        prefix: Only pods whose names begin so; with it, also pods without a file.
        older_than: Only pods that were ordered at least so many seconds ago, by the server's time.
        expired: Only pods whose unique names say that they have expired.
        only: Only pods that this earlier sweep has found.
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
        self._is_readable = True

    async def run(self, *, dry_run: bool) -> Sweep:
        """Find orphans, and delete them unless ``dry_run``.

        Raises:
            ConfigError: The folder of leases cannot be read.
            ProtocolError: Ages matter, and the server's time is not confirmed.
        """
        before = await asyncio.to_thread(self._read)
        if not before and self._prefix is None and not self._expired:
            return Sweep(found=(), skipped=tuple(self._skipped))
        listed, error = await self._pods.list().collect()
        await self._read_time()
        # Again, after the list: a pod ordered since the first read has its file now, and is no orphan.
        records = await asyncio.to_thread(self._read)
        try:
            orphans = await self._find(records, listed, is_complete=error is None)
            recorded = [*before.values(), *records.values()]
            if self._expired:
                # An expired pod is deleted in spite of its file, unless its process is seen to live.
                recorded = [record for record in recorded if not record.is_orphaned(older_than=0)]
                self._skip_living(listed, recorded)
            if self._expired or (self._prefix is not None and self._is_readable):
                orphans += self._unrecorded(listed, recorded)
            chosen = [orphan for orphan in orphans if self._is_chosen(orphan)]
            outcomes: dict[str, PrimePodsError | None] = {}
            if not dry_run:
                outcomes = await self._delete(chosen)
        finally:
            for file in self._claimed:
                file.close()
        errors = {pod_id: problem for pod_id, problem in outcomes.items() if problem is not None}
        return Sweep(
            found=tuple(pod for orphan in chosen for pod in orphan.pods),
            deleted=tuple(pod_id for pod_id, problem in outcomes.items() if problem is None),
            errors=errors if error is None else {_LIST: error, **errors},
            skipped=tuple(self._skipped),
        )

    def _read(self) -> dict[Path, LeaseRecord]:
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
            # The names of expired pods are proof enough.
            ledger = Ledger({}, {})
        self._is_readable = not ledger.unreadable
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
            ProtocolError: It is not confirmed, and ages matter.
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
            # Every age is negative then, so everything counts as just ordered, and no 404 proves anything.
            self._now = -math.inf

    async def _find(
        self, records: Mapping[Path, LeaseRecord], listed: list[Pod], *, is_complete: bool
    ) -> list[Orphan]:
        """Return the leases of dead processes whose pods run, or may run; none if only expired pods count."""
        if self._expired:
            return []
        found: list[Orphan] = []
        unlisted: list[Orphan] = []
        for orphan in self._claim_all(records):
            orphan.set_listed([pod for pod in listed if orphan.owns(pod)])
            if orphan.is_listed:
                found.append(orphan)
            elif not self._skip_renamed(orphan, listed):
                unlisted.append(orphan)
        ended = await ended_pods(self._pods) if unlisted else []
        for orphan in unlisted:
            if self._classify_unlisted(orphan, ended, is_complete=is_complete):
                orphan.set_unlisted()
                found.append(orphan)
        return found

    def _claim_all(self, records: Mapping[Path, LeaseRecord]) -> list[Orphan]:
        """Lock the files of dead processes, and note what is skipped; none if only expired pods count."""
        if self._expired:
            return []
        orphans: dict[str, Orphan] = {}
        for path, record in records.items():
            if not self._matches(record.name, record.ordered_at):
                continue
            file = self._claim(path, record)
            if isinstance(file, str):
                self._skip(record, file)
                continue
            self._claimed.append(file)
            orphan = Orphan(record.name, record.ordered_at, self._age(record.ordered_at))
            orphans.setdefault(record.name, orphan).files.append(file)
        return list(orphans.values())

    def _claim(self, path: Path, record: LeaseRecord) -> LeaseFile | str:
        """Return the file of a dead process, locked, or why it is left alone."""
        reason = self._reason_to_skip(record)
        if reason is not None:
            return reason
        try:
            return LeaseFile.claim(path) or "its process lives, or another sweep is at it"
        except (OSError, ValueError) as exc:
            return f"its file cannot be opened: {exc}"

    def _reason_to_skip(self, record: LeaseRecord) -> str | None:
        # Under another key, or for another team, a 404 would prove nothing.
        if record.base_url != self._settings.base_url:
            return f"it was rented at {record.base_url}"
        if record.key_fingerprint != fingerprint(self._settings):
            return "it was rented with another API key"
        if record.team_id != self._settings.team_id:
            team = "without a team" if record.team_id is None else f"of team {record.team_id}"
            return f"it is {team}: sweep with a client of that team_id"
        if record.is_orphaned(self._older_than):
            return None
        if record.is_elsewhere:
            return (
                f"it cannot be seen whether its process lives: host {record.host} is another machine or "
                "container, or was restarted. Give an age (older_than)"
            )
        return f"its process {record.pid} lives"

    def _skip(self, record: LeaseRecord, reason: str) -> None:
        skipped = SkippedLease(
            name=record.name, pod_id=record.pod_id, price_hr=record.price_hr, reason=reason
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

    def _classify_unlisted(self, orphan: Orphan, ended: list[HistoryRecord], *, is_complete: bool) -> bool:
        """Tell whether to delete an unlisted pod; otherwise note that it has ended, or skip it."""
        if orphan.has_ended(ended) or (orphan.is_refused and orphan.must_have_appeared and is_complete):
            self._ended.append(orphan)
        elif orphan.is_refused:
            self._skip(
                orphan.record,
                "its order was refused, but a gateway may have sent it twice: no pod has appeared. Sweep "
                "again ten minutes after the order",
            )
        elif orphan.pod_id is None and orphan.must_have_appeared:
            self._skip(
                orphan.record,
                "nothing has ever shown whether its pod exists, and each sweep looks for its name. If you "
                f"know that it does not, remove {orphan.files[0].path}",
            )
        else:
            # Its id is known, or its order is recent: it may be running, or still appear.
            return True
        return False

    def _unrecorded(self, listed: Iterable[Pod], records: list[LeaseRecord]) -> list[Orphan]:
        """Return the pods not in ``records`` that the arguments of the sweep ask for."""
        orphans: list[Orphan] = []
        wanted = [pod for pod in listed if self._matches(pod.name, pod.created_at)]
        for pod in wanted:
            if _is_recorded(pod, records):
                continue
            expires_at = expiry_of(pod.name)
            if self._expired and expires_at is None:
                continue
            # Until then, its lease may be alive on another machine.
            if expires_at is None or self._now >= expires_at + _EXPIRED_MARGIN:
                orphans.append(Orphan.without_file(pod, self._age(pod.created_at)))
            elif not self._expired:
                self._skip_pod(pod, expires_at)
        return orphans

    def _skip_living(self, listed: Iterable[Pod], living: list[LeaseRecord]) -> None:
        """Report expired pods whose processes live, but have not deleted them."""
        for pod in listed:
            expires_at = expiry_of(pod.name)
            if expires_at is None or self._now < expires_at + _EXPIRED_MARGIN:
                continue
            owner = next((record for record in living if _is_recorded(pod, [record])), None)
            if owner is not None and self._matches(pod.name, pod.created_at):
                self._skip(
                    owner, f"it has expired, but its process {owner.pid} lives: end it, then sweep again"
                )

    def _skip_pod(self, pod: Pod, expires_at: float) -> None:
        skipped = SkippedLease(
            name=str(pod.name),
            pod_id=pod.id,
            price_hr=pod.price_hr,
            reason=f"its name says that its lease, on another machine, lasts until {as_time(expires_at)}",
        )
        self._skipped.append(skipped)

    def _matches(self, name: str | None, since: datetime | None) -> bool:
        if self._prefix is not None and not (name or "").startswith(self._prefix):
            return False
        if self._older_than is None:
            return True
        return since is not None and self._now - since.timestamp() >= self._older_than

    def _age(self, since: datetime | None) -> float:
        """Return the seconds since a time; a listed pod without one is old."""
        return math.inf if since is None else self._now - since.timestamp()

    def _is_chosen(self, orphan: Orphan) -> bool:
        """Tell whether the earlier sweep, if any, found every pod of the orphan."""
        if self._only is None:
            return True
        earlier = self._only.found
        return all(any(_is_same(pod, found) for found in earlier) for pod in orphan.pods)

    async def _delete(self, orphans: list[Orphan]) -> dict[str, PrimePodsError | None]:
        """Delete the pods of orphans; return what went wrong, by id or else by name."""
        for orphan in self._ended:
            orphan.remove_files()
        limit = self._settings.max_concurrency
        outcomes = await map_bounded(lambda orphan: orphan.delete(self._account), orphans, limit)
        return {pod_id: problem for outcome in outcomes for pod_id, problem in outcome.items()}


def _is_same(pod: OrphanedPod, other: OrphanedPod) -> bool:
    """Compare by id; by name if one of the ids is unknown."""
    if pod.pod_id and other.pod_id:
        return pod.pod_id == other.pod_id
    return pod.name == other.name


def _as_text(path: object) -> str:
    """Return a path that can be printed, whatever bytes it has."""
    return str(path).encode(errors="backslashreplace").decode()


def _is_recorded(pod: Pod, records: list[LeaseRecord]) -> bool:
    """Tell whether a file names a pod, by its id or its unique name."""
    return any(record.pod_id == pod.id or is_same_name(record.name, pod.name) for record in records)
