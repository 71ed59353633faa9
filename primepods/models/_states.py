"""States of pods and installations."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class _OpenEnum(StrEnum):
    """An enum that accepts unknown words: each becomes a value that equals its string."""

    @classmethod
    def _missing_(cls, value: object) -> _OpenEnum | None:
        if not isinstance(value, str):
            return None
        # Not registered as a member, so that a million unknown words use no memory.
        word = str.__new__(cls, value)
        word._name_ = value
        word._value_ = value
        return word

    def __reduce_ex__(self, _: object) -> tuple[type[Self], tuple[str]]:
        # By value: Python 3.11.2 pickles enum members by name, and would not find an unknown word.
        return type(self), (self.value,)

    def __repr__(self) -> str:
        if self.is_known:
            return super().__repr__()
        # Show an unknown word escaped: it may hold any characters.
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def is_known(self) -> bool:
        """True if this version of the package knows the word."""
        return self._name_ in type(self).__members__


class PodState(_OpenEnum):
    """States of a pod. There is no RUNNING and no FAILED: a running pod is ACTIVE, a failed one ERROR."""

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
    """Progress of the image's installation on an ACTIVE pod."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"
