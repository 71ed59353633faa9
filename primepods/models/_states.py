"""States of pods and installations."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class _OpenEnum(StrEnum):
    """An enum that accepts any string: an unknown string becomes a value that equals it."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenEnum | None:
        if not isinstance(value, str):
            return None
        # Do not register the value as a member, so that unknown values are freed when nothing uses them.
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    def __reduce_ex__(self, _: object) -> tuple[type[Self], tuple[str]]:
        # Pickle the value: Python 3.11.2 pickles enum members by name, and would not find an unknown one.
        return type(self), (self.value,)

    def __repr__(self) -> str:
        if self.is_known:
            return super().__repr__()
        # Escape an unknown value, which may have any characters.
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def is_known(self) -> bool:
        """True if this version of the package knows the value."""
        return self._name_ in type(self).__members__


class PodState(_OpenEnum):
    """State of a pod or disk. A running pod is ACTIVE.

    If a pod has failed, this or its :class:`InstallationState` is ERROR.
    """

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    ERROR = "ERROR"
    DELETING = "DELETING"
    UNKNOWN = "UNKNOWN"
    TERMINATED = "TERMINATED"

    @property
    def is_ending(self) -> bool:
        """True if the pod is being deleted or is gone: DELETING or TERMINATED."""
        return self in _ENDING


_ENDING = frozenset({PodState.DELETING, PodState.TERMINATED})


class InstallationState(_OpenEnum):
    """State of the image's installation on a pod."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"
