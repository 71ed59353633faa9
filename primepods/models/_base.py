"""Base of the models of the API's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from .._utils.plain import ToDict, summary_fields
from .._utils.summaries import html_table, short_repr


class _NoExtra(dict[str, Any]):
    """The shared ``extra`` of models without unknown fields; it cannot be filled.

    A ``dict``, so that models can be pickled, copied and, through ``attrs.asdict``, converted to JSON.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("The extra of a model cannot be changed.")

    __setitem__ = __ior__ = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]  # none of them is allowed

    def __reduce__(self) -> str:
        return "NO_EXTRA"


NO_EXTRA: Mapping[str, Any] = _NoExtra()


def id_first_extra_last(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Put the id first and ``extra`` last, even if they are inherited."""
    first = [field for field in fields if field.name in {"id", "pod_id"}]
    last = [field for field in fields if field.name == "extra"]
    return [*first, *(field for field in fields if field not in first and field not in last), *last]


@attrs.frozen(kw_only=True)
class Model(ToDict):
    """Base of classes that represent an object of the API's schema."""

    extra: Mapping[str, Any] = attrs.field(default=NO_EXTRA, repr=False, hash=False)
    """Fields of the response that this version does not know."""

    def __repr__(self) -> str:
        """Return the main fields in fewer than 200 characters."""
        # Leave out `ssh`, whose value would be cut to an unusable part.
        return short_repr(self, [name for name in summary_fields(type(self)) if name != "ssh"])

    def _repr_html_(self) -> str:
        names = summary_fields(type(self))
        return html_table(type(self).__name__, names, [[getattr(self, name) for name in names]])
