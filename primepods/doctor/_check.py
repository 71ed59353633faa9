"""Results of checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from .._utils.plain import ToDict

Result = Literal["ok", "warning", "failure"]


@attrs.frozen(kw_only=True)
class Check(ToDict):
    """The result of one check.

    Attributes:
        name: The subject of the check, such as ``clock``.
        result: ``ok``, ``warning`` or ``failure``.
        detail: The finding.
        remedy: The next step for the user; ``None`` if the result is ``ok``.
    """

    name: str
    result: Result
    detail: str
    remedy: str | None = None

    def edited(self, edit: Callable[[str], str]) -> Check:
        """Return a copy, with ``edit`` applied to the detail and the remedy."""
        remedy = None if self.remedy is None else edit(self.remedy)
        return attrs.evolve(self, detail=edit(self.detail), remedy=remedy)


def ok(name: str, detail: str) -> Check:
    return Check(name=name, result="ok", detail=detail)


def warning(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, result="warning", detail=detail, remedy=remedy)


def failure(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, result="failure", detail=detail, remedy=remedy)
