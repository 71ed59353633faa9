"""An orphaned pod: the lease file, the rows of the list, and the deletion."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import attrs

from .._utils.unique_names import is_same_name
from ..errors import CreateUncertainError, NotFoundError, PrimePodsError
from ..models import HistoryRecord, Pod
from ._lease_file import LeaseFile
from ._record import LeaseRecord
from .account import Account
from .pods_api import APPEARS_WITHIN, can_be_named, find_namesakes, has_ended
from .sweep import OrphanedPod

_RELEASE_TIMEOUT: Final = 600.0
_INTERVAL: Final = 1.0
"""Seconds between two polls of a pod that is being deleted: somebody waits at a terminal."""


@attrs.define
class Orphan:
    """A lease whose process is dead, or a pod without a file.

    Attributes:
        name: The pod's name.
        ordered_at: When it was ordered.
        age: Seconds since then, by the server's time.
        files: Its files, locked: a process that was killed while it wrote one leaves two.
        pods: Its pods: more than one where a gateway has sent the order twice.
        is_listed: Whether the list shows them.
    """

    name: str
    ordered_at: datetime | None
    age: float
    files: list[LeaseFile] = attrs.field(factory=list[LeaseFile])
    pods: list[OrphanedPod] = attrs.field(factory=list[OrphanedPod])
    is_listed: bool = False

    @classmethod
    def without_file(cls, pod: Pod, age: float) -> Orphan:
        """Return the orphan of a listed pod that no file names."""
        orphan = cls(str(pod.name), pod.created_at, age)
        orphan.add_listed([pod])
        return orphan

    @property
    def record(self) -> LeaseRecord:
        """Content of its first file."""
        return self.files[0].record

    @property
    def pod_id(self) -> str | None:
        """The pod's id, if a file has it."""
        return next((file.record.pod_id for file in self.files if file.record.pod_id), None)

    @property
    def is_late(self) -> bool:
        """Whether its pod would have appeared by now."""
        return self.age >= APPEARS_WITHIN

    @property
    def is_refused(self) -> bool:
        """Whether its order was refused, so that a pod is improbable."""
        return self.pod_id is None and all(file.record.is_refused for file in self.files)

    def add_listed(self, pods: list[Pod]) -> None:
        """Add the pods that the list shows of it."""
        self.is_listed = bool(pods)
        self.pods = [
            OrphanedPod(name=pod.name, pod_id=pod.id, price_hr=pod.price_hr, created_at=self.ordered_at)
            for pod in pods
        ]

    def add_unlisted(self) -> None:
        """Add the pod that the list does not show, but which may exist."""
        record = self.record
        self.pods = [
            OrphanedPod(
                name=record.name,
                pod_id=self.pod_id,
                price_hr=record.price_hr,
                created_at=record.ordered_at,
            )
        ]

    def owns(self, pod: Pod) -> bool:
        """Tell whether a listed pod is its own: by the unique name, or by the id unless the name differs."""
        return any(
            is_same_name(file.record.name, pod.name)
            or (pod.id == file.record.pod_id and can_be_named(pod, file.record.name))
            for file in self.files
        )

    def has_id_of(self, pod: Pod) -> bool:
        """Tell whether a file has the id of a pod."""
        return any(file.record.pod_id == pod.id for file in self.files)

    def has_ended(self, ended: list[HistoryRecord]) -> bool:
        """Tell whether the history shows its end."""
        return has_ended(self.record.name, self.pod_id, ended)

    def remove_files(self) -> None:
        """Remove its files: nothing is left of it."""
        for file in self.files:
            file.remove()

    async def delete(self, account: Account) -> dict[str, PrimePodsError | None]:
        """Delete its pods, and confirm it; return what went wrong, by id or else by name."""
        pod_ids = [pod.pod_id for pod in self.pods if pod.pod_id is not None]
        try:
            if not pod_ids:
                pod_ids = await self._search(account)
        except PrimePodsError as exc:
            return {self.name: exc}
        outcome = {pod_id: await self._delete(pod_id, account) for pod_id in pod_ids}
        if not any(outcome.values()):
            self.remove_files()
        return outcome

    async def _search(self, account: Account) -> list[str]:
        """Return the ids of the pods of a lease whose process died before it knew one.

        Raises:
            CreateUncertainError: There is none yet.
        """
        found, shown = await find_namesakes(account.pods, self.record.name, account.settings.clock)
        if not found:
            text = f"Whether the pod {self.name!r} exists is unknown: {shown}. Sweep again: it may appear."
            raise CreateUncertainError(text, name=self.name)
        return [pod.id for pod in found]

    async def _delete(self, pod_id: str, account: Account) -> PrimePodsError | None:
        """Delete one pod and confirm that it is terminated; return what went wrong."""
        must_exist = not self.is_listed and not self.is_late
        try:
            # Without retries: a 404 must not be that of a deletion that was repeated.
            deleting = account.pods_once if must_exist else account.pods
            await deleting.delete(pod_id, missing_ok=not must_exist)
            await account.pods.wait_gone(pod_id, timeout=_RELEASE_TIMEOUT, interval=_INTERVAL)
        except NotFoundError as exc:
            exc.add_note("It was ordered so recently that it may appear yet: sweep again in ten minutes.")
            return exc
        except PrimePodsError as exc:
            return exc
        except ValueError as exc:
            # Something else wrote the file, with an id that is none.
            return PrimePodsError(f"The file of {self.name!r} cannot be used: {exc} Remove it by hand.")
        return None
