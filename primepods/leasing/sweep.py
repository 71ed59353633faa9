"""Removing what dead processes have left: by the files of their leases, or by the names of their pods."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs

from .._utils.concurrency import map_bounded
from .._utils.plain import ToDict
from .._utils.text import quote
from .._utils.unique_names import expiry_of, is_same_name
from ..errors import CreateUncertainError, NotFoundError, PrimePodsError, ProtocolError
from ..models import HistoryRecord, Pod
from ._ledger import LeaseFile, LeaseRecord, as_time, fingerprint, read_ledger, remove_broken_drafts
from ._pods import APPEARS_WITHIN, can_be_named, ended_pods, find_namesakes, has_ended
from ._rental import Account
from ._server_time import confirmed_time

_RELEASE_TIMEOUT: Final = 600.0
_INTERVAL: Final = 1.0
"""Seconds between two looks at a pod that is being deleted: somebody waits at a terminal."""
_EXPIRED_MARGIN: Final = 900.0
"""Seconds after its expiry in which a pod's own lease may still delete it."""
_LIST: Final = "pods.list"


@attrs.frozen(kw_only=True)
class OrphanedPod(ToDict):
    """A pod for which nobody cares any more.

    Attributes:
        name: Its name.
        pod_id: Its id; ``None`` if its process died before it knew it, and the list does not show it yet.
        price_hr: What it costs an hour, if that is known.
        created_at: When it was created, or ordered; ``None`` if the API does not say.
    """

    name: str | None
    pod_id: str | None
    price_hr: float | None
    created_at: datetime | None


@attrs.frozen(kw_only=True)
class SkippedLease(ToDict):
    """A lease that a sweep has left alone, though its file is there, or its pod is of the prefix.

    Attributes:
        name: Its pod's name; the file's if that cannot be read.
        pod_id: Its pod's id; ``None`` if that is not known.
        price_hr: What the pod costs an hour, if that is known.
        reason: Why: its process lives, it is another host's, API's, key's or team's, it cannot be read, or
            nothing has ever shown whether its pod was made.
    """

    name: str
    pod_id: str | None
    price_hr: float | None
    reason: str


@attrs.frozen(kw_only=True)
class Sweep(ToDict):
    """What a sweep has found and done.

    Attributes:
        found: The pods that it found, those of ``errors`` among them.
        deleted: Ids of those that it deleted and confirmed terminated; empty with ``dry_run``.
        errors: What went wrong, by the pod's id, or by its name where it has none: they may be billed. Under
            ``pods.list``, why the list of pods is incomplete.
        skipped: The leases of that prefix and age that it has left alone, and why.
    """

    found: tuple[OrphanedPod, ...]
    deleted: tuple[str, ...] = ()
    errors: Mapping[str, PrimePodsError] = attrs.field(factory=dict[str, PrimePodsError])
    skipped: tuple[SkippedLease, ...] = ()

    @property
    def price_hr(self) -> float:
        """What all that was found costs an hour, as far as it is known."""
        return sum(pod.price_hr or 0.0 for pod in self.found)


@attrs.define
class _Orphan:
    """A lease whose process is dead, or an orphaned pod without a file.

    Attributes:
        name: Its pod's name.
        ordered_at: When it was ordered.
        files: Its files, locked: a process that was killed while it wrote one leaves two.
        pods: Its pods: more than one where a gateway has sent the order twice.
        is_listed: Whether the list shows them.
    """

    name: str
    ordered_at: datetime | None
    files: list[LeaseFile]
    pods: list[OrphanedPod]
    is_listed: bool


class Sweeper:
    """Finds and deletes orphaned pods.

    Args:
        account: Through what it deletes: only this API's, key's and team's leases are looked at.
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
        self._ended: list[_Orphan] = []

    async def run(self, *, dry_run: bool) -> Sweep:
        """Find orphans, and delete them unless ``dry_run``.

        Raises:
            ConfigError: The folder of leases cannot be read.
            ProtocolError: Ages matter, and no response says what time it is.
        """
        files: list[LeaseFile] = []
        try:
            before = await asyncio.to_thread(self._read)
            if not before and self._prefix is None and not self._expired:
                return Sweep(found=(), skipped=tuple(self._skipped))
            listed, error = await self._pods.list().collect()
            self._is_complete = error is None
            orphans = [
                orphan for orphan in await self._find(before, listed, files) if self._is_chosen(orphan)
            ]
            found = tuple(pod for orphan in orphans for pod in orphan.pods)
            errors: dict[str, PrimePodsError] = {} if error is None else {_LIST: error}
            deleted: list[str] = []
            if not dry_run:
                for orphan in self._ended:
                    self._remove_files(orphan)
                for outcome in await map_bounded(self._remove, orphans, self._settings.max_concurrency):
                    deleted += [pod_id for pod_id, problem in outcome.items() if problem is None]
                    errors |= {pod_id: problem for pod_id, problem in outcome.items() if problem is not None}
        finally:
            for file in files:
                file.close()
        return Sweep(found=found, deleted=tuple(deleted), errors=errors, skipped=tuple(self._skipped))

    def _read(self) -> dict[Path, LeaseRecord]:
        """Read all files of leases; note what cannot be read."""
        remove_broken_drafts(self._folder, self._settings.clock.wall())
        ledger = read_ledger(self._folder)
        self._is_readable = not ledger.unreadable
        self._skipped = [
            SkippedLease(
                name=_as_text(path.name),
                pod_id=None,
                price_hr=None,
                reason=f"{_as_text(path)} cannot be read ({reason}): look whether it names a pod. Until "
                "then, no pod without a file is deleted",
            )
            for path, reason in ledger.unreadable.items()
        ]
        return ledger.records

    async def _find(
        self, before: Mapping[Path, LeaseRecord], listed: list[Pod], files: list[LeaseFile]
    ) -> list[_Orphan]:
        """Return what is orphaned; files that are claimed for it are added to ``files``."""
        server_time = await confirmed_time(self._pods, self._account.server_clock, self._settings.clock)
        if server_time is None and (self._expired or self._older_than is not None):
            raise ProtocolError(
                "GET /api/v1/pods/: no usable Date, or no two that agree: nothing is deleted. "
                "Sweep without `older_than` and `expired`, or have your proxy let the API's Date through.",
                method="GET",
                url_path="/api/v1/pods/",
            )
        # Where it is not known, everything counts as ordered just now: no 404 proves anything.
        self._now = -math.inf if server_time is None else server_time
        # After the list: whatever it shows had its file by then, and has it yet or had it before.
        records = await asyncio.to_thread(self._read)
        if self._expired:
            return self._without_file(listed, [*before.values(), *records.values()])
        orphans = self._claim_all(records, files)
        ended = []
        for name, orphan in list(orphans.items()):
            pods = [pod for pod in listed if any(_is_of(file.record, pod) for file in orphan.files)]
            orphan.is_listed = bool(pods)
            orphan.pods = [_as_orphaned(pod, orphan.ordered_at) for pod in pods]
            pod_ids = {file.record.pod_id for file in orphan.files}
            if not pods and (others := [pod for pod in listed if pod.id in pod_ids]):
                del orphans[name]
                self._skip_renamed(orphan, others[0])
        if not all(orphan.is_listed for orphan in orphans.values()):
            ended = await ended_pods(self._pods)
        found = [orphan for orphan in orphans.values() if orphan.is_listed or self._may_run(orphan, ended)]
        if self._prefix is not None and self._is_readable:
            found += self._without_file(listed, [*before.values(), *records.values()])
        return found

    def _claim_all(self, records: Mapping[Path, LeaseRecord], files: list[LeaseFile]) -> dict[str, _Orphan]:
        """Lock the files of dead processes, and note what is skipped."""
        orphans: dict[str, _Orphan] = {}
        for path, record in records.items():
            if not self._matches(record.name, record.ordered_at):
                continue
            file = self._claim(path, record)
            if isinstance(file, str):
                self._skip(record, file)
                continue
            files.append(file)
            orphan = orphans.setdefault(
                record.name, _Orphan(record.name, record.ordered_at, [], [], is_listed=False)
            )
            orphan.files.append(file)
        return orphans

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
                f"whether its process on host {record.host} lives cannot be seen, since that is another "
                "machine or container, or was started anew: give an age (older_than)"
            )
        return f"its process {record.pid} lives"

    def _skip(self, record: LeaseRecord, reason: str) -> None:
        skipped = SkippedLease(
            name=record.name, pod_id=record.pod_id, price_hr=record.price_hr, reason=reason
        )
        self._skipped.append(skipped)

    def _skip_renamed(self, orphan: _Orphan, pod: Pod) -> None:
        self._skip(
            orphan.files[0].record,
            f"the API shows pod {pod.id} with another name, {quote(pod.name)}: it may be somebody else's. If "
            f"it is not, delete it by its id, and remove {orphan.files[0].path}",
        )

    def _may_run(self, orphan: _Orphan, ended: list[HistoryRecord]) -> bool:
        """Tell whether the pod of a lease that the list does not show may be running, or appear yet."""
        record = orphan.files[0].record
        pod_id = next((file.record.pod_id for file in orphan.files if file.record.pod_id), None)
        orphan.pods = [
            OrphanedPod(
                name=record.name, pod_id=pod_id, price_hr=record.price_hr, created_at=record.ordered_at
            )
        ]
        if has_ended(record.name, pod_id, ended):
            self._ended.append(orphan)
            return False
        is_late = self._age(orphan) >= APPEARS_WITHIN
        if pod_id is None and all(file.record.is_refused for file in orphan.files):
            if is_late and self._is_complete:
                self._ended.append(orphan)
            else:
                self._skip(
                    record,
                    "its order was refused, but a gateway may have sent it twice: no pod has appeared. Sweep "
                    "again ten minutes after the order",
                )
            return False
        if pod_id is None and is_late:
            self._skip(
                record,
                "nothing has ever shown whether its pod was made, and each sweep looks for its name. If you "
                f"know that it was not, remove {orphan.files[0].path}",
            )
            return False
        return True

    def _without_file(self, listed: Iterable[Pod], records: list[LeaseRecord]) -> list[_Orphan]:
        """Return the pods without a file that the arguments of the sweep ask for."""
        known = {record.pod_id for record in records}
        orphans: list[_Orphan] = []
        for pod in listed:
            if (
                not self._matches(pod.name, pod.created_at)
                or pod.id in known
                or any(is_same_name(record.name, pod.name) for record in records)
            ):
                continue
            expires_at = expiry_of(pod.name)
            if expires_at is not None and self._now < expires_at + _EXPIRED_MARGIN:
                # Its lease, elsewhere, may live until then.
                if not self._expired:
                    self._skip_pod(pod, expires_at)
            elif expires_at is not None or not self._expired:
                orphan = _as_orphaned(pod, pod.created_at)
                orphans.append(_Orphan(str(pod.name), pod.created_at, [], [orphan], is_listed=True))
        return orphans

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

    def _age(self, orphan: _Orphan) -> float:
        return APPEARS_WITHIN if orphan.ordered_at is None else self._now - orphan.ordered_at.timestamp()

    def _is_chosen(self, orphan: _Orphan) -> bool:
        """Tell whether the earlier sweep, if any, has found all of it; by name where an id is not known."""
        if self._only is None:
            return True
        return all(
            any(
                pod.pod_id == found.pod_id if pod.pod_id and found.pod_id else pod.name == found.name
                for found in self._only.found
            )
            for pod in orphan.pods
        )

    async def _remove(self, orphan: _Orphan) -> dict[str, PrimePodsError | None]:
        """Delete the pods of a lease, and confirm it; return what went wrong, by id or else by name."""
        outcome: dict[str, PrimePodsError | None] = {}
        pod_ids = [pod.pod_id for pod in orphan.pods if pod.pod_id is not None]
        try:
            if not pod_ids:
                pod_ids = await self._look_for(orphan)
        except PrimePodsError as exc:
            return {orphan.name: exc}
        for pod_id in pod_ids:
            outcome[pod_id] = await self._delete(pod_id, orphan)
        if not any(outcome.values()):
            self._remove_files(orphan)
        return outcome

    async def _look_for(self, orphan: _Orphan) -> list[str]:
        """Return the ids of the pods of a lease whose process died before it knew one.

        Raises:
            CreateUncertainError: There is none yet.
        """
        found, shown = await find_namesakes(self._pods, orphan.files[0].record.name, self._settings.clock)
        if not found:
            text = (
                f"Whether the pod {orphan.name!r} was made is unknown: {shown}. Sweep again: it may appear."
            )
            raise CreateUncertainError(text, name=orphan.name)
        return [pod.id for pod in found]

    async def _delete(self, pod_id: str, orphan: _Orphan) -> PrimePodsError | None:
        """Delete one pod and confirm that it is terminated; return what went wrong."""
        is_old = self._age(orphan) >= APPEARS_WITHIN
        try:
            # Without retries: a 404 must not be that of a deletion that was repeated.
            deleting = self._pods if orphan.is_listed or is_old else self._account.pods_once
            await deleting.delete(pod_id, missing_ok=orphan.is_listed or is_old)
            await self._pods.wait_gone(pod_id, timeout=_RELEASE_TIMEOUT, interval=_INTERVAL)
        except NotFoundError as exc:
            exc.add_note("It was ordered so recently that it may appear yet: sweep again in ten minutes.")
            return exc
        except PrimePodsError as exc:
            return exc
        except ValueError as exc:
            # An id that is none: the file was written by something else.
            return PrimePodsError(f"The file of {orphan.name!r} cannot be used: {exc} Remove it by hand.")
        return None

    @staticmethod
    def _remove_files(orphan: _Orphan) -> None:
        for file in orphan.files:
            file.remove()


def _as_text(path: object) -> str:
    """Return a path that can be printed, whatever bytes it has."""
    return str(path).encode(errors="backslashreplace").decode()


def _is_of(record: LeaseRecord, pod: Pod) -> bool:
    """Tell whether a listed pod is that of a lease: by its unique name, or by its id without another name."""
    return is_same_name(record.name, pod.name) or (pod.id == record.pod_id and can_be_named(pod, record.name))


def _as_orphaned(pod: Pod, since: datetime | None) -> OrphanedPod:
    return OrphanedPod(name=pod.name, pod_id=pod.id, price_hr=pod.price_hr, created_at=since)
