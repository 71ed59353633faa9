"""Removing what dead processes have left: by the files of their leases, or by the names of their pods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from .._utils.concurrency import map_bounded
from .._utils.plain import ToDict
from ..config import Settings
from ..errors import CreateUncertainError, PrimePodsError
from ..models import Pod
from ._ledger import (
    LeaseFile,
    LeaseRecord,
    fingerprint,
    lease_files,
    lease_paths,
    read_record,
    remove_abandoned_drafts,
)
from .operations import PodOperations

_RELEASE_TIMEOUT: Final = 600.0
_INTERVAL: Final = 1.0
"""Seconds between two looks at a pod that is being deleted: somebody waits at a terminal."""
_APPEARS_WITHIN: Final = 240.0
"""Seconds after its order in which a pod that no list shows may appear, whatever a 404 says."""
_NEVER_MADE: Final = 3600.0
"""Seconds after an order after which a pod that no list shows was never made, or is long gone."""


@attrs.frozen(kw_only=True)
class OrphanedPod(ToDict):
    """A pod for which nobody cares any more.

    Attributes:
        name: Its name.
        pod_id: Its id; ``None`` if its process died before it knew, and no list shows the name.
        price_hr: What it costs an hour, if that is known.
        created_at: When it was created, or ordered; ``None`` if the API does not say.
    """

    name: str | None
    pod_id: str | None
    price_hr: float | None
    created_at: datetime | None


@attrs.frozen(kw_only=True)
class SkippedLease(ToDict):
    """A lease that a sweep has left alone, though its file is there.

    Attributes:
        name: Its pod's name; the file's if that cannot be read.
        pod_id: Its pod's id; ``None`` if that is not known.
        price_hr: What the pod costs an hour, if that is known.
        reason: Why: its process lives, it is another host's, API's, key's or team's, or cannot be read.
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
        deleted: Ids of those that it deleted and saw gone; empty with ``dry_run``.
        errors: What went wrong, by the pod's id, or by its name where it has none. They may be billed.
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
    pod: OrphanedPod
    is_listed: bool
    """Whether the list shows a pod of its id, or of its name where the id is not known."""
    file: LeaseFile | None = None


class Sweeper:
    """Finds and deletes orphaned pods.

    Args:
        operations: What it does it with.
        settings: The client's settings: only its own API's and key's leases are looked at.
        folder: Where the files of leases are.
        prefix: Only pods whose names begin so; with it, also pods without a file.
        older_than: Only pods that were ordered at least so many seconds ago.
        only: Only pods that this earlier sweep has found.
    """

    def __init__(  # noqa: PLR0913 - what it needs, and which pods
        self,
        operations: PodOperations,
        settings: Settings,
        folder: Path,
        *,
        prefix: str | None,
        older_than: float | None,
        only: Sweep | None,
    ) -> None:
        self._operations = operations
        self._settings = settings
        self._folder = folder
        self._prefix = prefix
        self._older_than = older_than
        self._only = only
        self._now = datetime.fromtimestamp(settings.clock.wall(), UTC)
        self._skipped: list[SkippedLease] = []
        self._claimed: set[Path] = set()
        self._resolved: list[LeaseRecord] = []

    async def run(self, *, dry_run: bool) -> Sweep:
        """Find orphans, and delete them unless ``dry_run``."""
        files = self._claim_files()
        skipped = tuple(self._skipped)
        try:
            orphans = [orphan for orphan in await self._find(files) if self._is_chosen(orphan.pod)]
            found = tuple(orphan.pod for orphan in orphans)
            if dry_run or not orphans:
                return Sweep(found=found, skipped=skipped)
            limit = self._settings.max_concurrency
            outcomes = await map_bounded(self._remove, orphans, limit)
        finally:
            for file in files:
                file.close()
        return Sweep(
            found=found,
            deleted=tuple(outcome for outcome in outcomes if isinstance(outcome, str)),
            errors={
                pod.pod_id or str(pod.name): outcome
                for pod, outcome in zip(found, outcomes, strict=True)
                if isinstance(outcome, PrimePodsError)
            },
            skipped=skipped,
        )

    def _claim_files(self) -> list[LeaseFile]:
        """Return the files of dead processes, locked; note what is skipped."""
        remove_abandoned_drafts(self._folder, self._now)
        claimed: list[LeaseFile] = []
        for path in lease_paths(self._folder):
            try:
                record = read_record(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                reason = f"{path} cannot be read ({exc}): look whether it names a pod"
                self._skipped.append(SkippedLease(name=path.name, pod_id=None, price_hr=None, reason=reason))
                continue
            if not self._matches(record.name, record.ordered_at):
                continue
            file = self._claim(path, record)
            if isinstance(file, LeaseFile):
                claimed.append(file)
                self._claimed.add(path)
            else:
                skipped = SkippedLease(
                    name=record.name, pod_id=record.pod_id, price_hr=record.price_hr, reason=file
                )
                self._skipped.append(skipped)
        return claimed

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
            return "it was rented without a team" if record.team_id is None else f"of team {record.team_id}"
        if record.is_orphaned(self._older_than):
            return None
        if record.is_elsewhere:
            return f"whether its process on host {record.host} lives cannot be seen: give an age (older_than)"
        return f"its process {record.pid} lives"

    def _others(self) -> list[LeaseRecord]:
        """Return the leases whose pods are known, or that this sweep leaves alone, also new ones."""
        left_alone = [record for path, record in lease_files(self._folder) if path not in self._claimed]
        return left_alone + self._resolved

    def _matches(self, name: str | None, since: datetime | None) -> bool:
        if self._prefix is not None and not (name or "").startswith(self._prefix):
            return False
        if self._older_than is None:
            return True
        return since is not None and (self._now - since).total_seconds() >= self._older_than

    def _is_chosen(self, pod: OrphanedPod) -> bool:
        """Tell whether the earlier sweep, if any, has found it; by its name where an id is not known."""
        return self._only is None or any(
            pod.pod_id == found.pod_id
            if pod.pod_id is not None and found.pod_id is not None
            else pod.name == found.name
            for found in self._only.found
        )

    async def _find(self, files: list[LeaseFile]) -> list[_Orphan]:
        if not files and self._prefix is None:
            return []
        pods = {pod.id: pod async for pod in self._operations.list()}
        # After the list: whatever it shows had its file by then.
        left_alone = self._others()
        self._resolved += [file.record for file in files if file.record.pod_id is not None]
        orphans: list[_Orphan] = []
        for file in files:
            orphan = _of_file(file, pods, left_alone + self._resolved)
            orphans.append(orphan)
            if orphan.pod.pod_id is not None:
                # Another order of this name has made another pod, or none.
                self._resolved.append(attrs.evolve(file.record, pod_id=orphan.pod.pod_id))
        if self._prefix is not None:
            known = {orphan.pod.pod_id for orphan in orphans}
            known |= {text for other in left_alone for text in (other.name, other.pod_id)}
            orphans += [
                _Orphan(_as_orphaned(pod), is_listed=True)
                for pod in pods.values()
                if self._matches(pod.name, pod.created_at) and not known & {pod.id, pod.name}
            ]
        return orphans

    async def _remove(self, orphan: _Orphan) -> str | PrimePodsError | None:
        """Delete a pod and see it gone; return its id, if there was one, or what went wrong."""
        pod, file = orphan.pod, orphan.file
        age = max(0.0, (self._now - pod.created_at).total_seconds()) if pod.created_at else _NEVER_MADE
        try:
            pod_id = pod.pod_id
            if pod_id is None and file is not None:
                pod_id = await self._look_for(file.record, age, is_listed=orphan.is_listed)
            elif not orphan.is_listed and age < _APPEARS_WITHIN:
                await self._settings.clock.wait(asyncio.Event(), _APPEARS_WITHIN - age)
            if pod_id is not None:
                await self._operations.delete(pod_id, missing_ok=True)
                await self._operations.wait_gone(pod_id, timeout=_RELEASE_TIMEOUT, interval=_INTERVAL)
        except PrimePodsError as exc:
            return exc
        except ValueError as exc:
            # An id that is none: the file was written by something else.
            return PrimePodsError(f"The file of {pod.name!r} cannot be used: {exc} Remove it by hand.")
        if file is not None:
            file.remove()
        return pod_id

    async def _look_for(self, record: LeaseRecord, age: float, *, is_listed: bool) -> str | None:
        """Return the id of a pod whose process died before it knew it; ``None`` if it was never made."""
        error: CreateUncertainError
        try:
            pod = await self._operations.find(record.name, self._now.timestamp() - age)
        except CreateUncertainError as exc:
            error = exc
        else:
            if _is_theirs(pod, record, self._others()):
                return pod.id
            text = (
                f"Pod {pod.id} has the name {record.name!r}, but is not provably the one that a dead process "
                "ordered. Delete it if nobody uses it; the file stays as long as the pod is there."
            )
            error = CreateUncertainError(text, name=record.name)
        if age < _NEVER_MADE or is_listed:
            raise error
        # What could not be read in between proves nothing.
        if _namesakes(record, [pod async for pod in self._operations.list()], self._others()):
            raise error
        return None


def _of_file(file: LeaseFile, pods: Mapping[str, Pod], others: list[LeaseRecord]) -> _Orphan:
    record = file.record
    pod_id, namesakes = record.pod_id, _namesakes(record, pods.values(), others)
    if pod_id is None:
        # The process died before it knew.
        found = [pod for pod in namesakes if _is_theirs(pod, record, others)]
        pod_id = found[0].id if len(found) == 1 else None
    pod = pods.get(pod_id or "")
    orphaned = OrphanedPod(
        name=record.name,
        pod_id=pod_id,
        price_hr=record.price_hr if pod is None else pod.price_hr,
        created_at=record.ordered_at,
    )
    return _Orphan(orphaned, pod is not None or (record.pod_id is None and bool(namesakes)), file)


def _namesakes(record: LeaseRecord, pods: Iterable[Pod], others: list[LeaseRecord]) -> list[Pod]:
    """Return the pods of a lease's name, but for those that other leases know."""
    known = {other.pod_id for other in others}
    return [pod for pod in pods if pod.name == record.name and pod.id not in known]


def _is_theirs(pod: Pod, record: LeaseRecord, others: list[LeaseRecord]) -> bool:
    """Tell whether a pod can be a lease's, and no other lease's."""
    might_be = any(other.pod_id in {None, pod.id} and other.name == pod.name for other in others)
    return record.is_of(pod) and not might_be


def _as_orphaned(pod: Pod) -> OrphanedPod:
    return OrphanedPod(name=pod.name, pod_id=pod.id, price_hr=pod.price_hr, created_at=pod.created_at)
