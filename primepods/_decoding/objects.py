"""Factories of cattrs hooks, which decode attrs classes and lists."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, get_args

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from .._utils.exceptions import drop_tracebacks
from .._utils.strict_json import is_list, is_object
from ..models import PodStatus, Resources
from ..models.account import BillingEntry, Wallet
from .fields import MAX_DEPTH, DecodeError, Hook, is_deeper, wrong_type

ALIASES: Final[Mapping[Any, Mapping[str, str]]] = {PodStatus: {"cost_per_hr": "priceHr"}}
"""Keys that are read if a field's own key is absent or null. `prime` reads ``priceHr``."""
_IRREGULAR_NAMES: Final[Mapping[Any, Mapping[str, str]]] = {
    Resources: {"shared_disk": "shared_disk"},
    Wallet: {
        "wallet_id": "wallet_id",
        "team_id": "team_id",
        "balance": "balance_usd",
        "total_billings": "total_billings",
        "entries": "recent_billings",
    },
    BillingEntry: {
        "amount": "amount_usd",
        "resource_type": "resource_type",
        "resource_id": "resource_id",
        "created_at": "created_at",
        "updated_at": "updated_at",
        "last_billed_at": "last_billed_at",
    },
}
"""Keys that are not the camel case of their field's name."""


def wire_names(model: Any) -> dict[str, str]:
    """Return the JSON keys of a model's fields, except ``extra``, by field name."""
    names = {field.name: _camel_case(field.name) for field in attrs.fields(model) if field.name != "extra"}
    return {**names, **_IRREGULAR_NAMES.get(model, {})}


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def unknown_fields(row: dict[str, Any], known: AbstractSet[str]) -> Mapping[str, Any]:
    """Return the fields of a row that are not in ``known``.

    Raises:
        DecodeError: These fields are nested too deeply.
    """
    extra = {key: value for key, value in row.items() if key not in known}
    if is_deeper(extra, MAX_DEPTH):
        raise wrong_type(f"an object of at most {MAX_DEPTH} levels", row)
    return extra


def object_hook(model: Any, converter: Converter) -> Hook:
    """Return the hook of an attrs class; the hook stores unknown fields in ``extra``."""
    names = wire_names(model)
    aliases = ALIASES.get(model, {})
    known = frozenset({*names.values(), *aliases.values()})
    overrides: dict[str, Any] = {name: override(rename=wire) for name, wire in names.items()}
    may_be_empty = all(field.default is not attrs.NOTHING for field in attrs.fields(model))
    structure = make_dict_structure_fn(model, converter, extra=override(omit=True), **overrides)

    def read_object(row: Any, kind: Any) -> Any:
        if row is None and may_be_empty:
            # For example, an offer's `disk` (imagined: the API's schema does not allow null).
            return model()
        if not is_object(row):
            raise wrong_type("an object", row)
        extra = unknown_fields(row, known)
        row = {**row}
        used_aliases = _apply_aliases(row, names, aliases)
        try:
            instance = structure(row, kind)
        except ClassValidationError as exc:
            error = _first_error(exc, {**names, **used_aliases})
        else:
            return attrs.evolve(instance, extra=extra) if extra else instance
        try:
            # Raise outside the `except`, so that cattrs' exception does not become the context of the error.
            # `del` prevents a reference cycle between the error and this frame.
            raise error
        finally:
            del error

    return read_object


def _apply_aliases(
    row: dict[str, Any], names: Mapping[str, str], aliases: Mapping[str, str]
) -> dict[str, str]:
    """Set absent or null fields of a row to the values of their aliases; return the used aliases by field."""
    used: dict[str, str] = {}
    for name, alias in aliases.items():
        if row.get(names[name]) is None and alias in row:
            row[names[name]] = row[alias]
            used[name] = alias
    return used


def _first_error(group: ClassValidationError, names: Mapping[str, str]) -> DecodeError:
    """Return the first error that cattrs collected, with its field's JSON key.

    Raises:
        Exception: The first error is a bug, not a :class:`DecodeError` or a missing key.
    """
    drop_tracebacks(group)
    errors_with_notes, _ = group.group_exceptions()
    cause, note = errors_with_notes[0]
    if isinstance(cause, KeyError):
        cause = DecodeError("", "is missing", None)
    if not isinstance(cause, DecodeError):
        raise cause
    return cause.inside(names[note.name])


def list_hook(kind: Any, converter: Converter) -> Hook:
    """Return the hook of a type ``tuple[T, ...]``; null is read as an empty list."""
    item_type = get_args(kind)[0]
    read_item = converter.get_structure_hook(item_type)

    def read_list(value: Any, _: Any) -> tuple[Any, ...]:
        if value is None:
            return ()
        if not is_list(value):
            raise wrong_type("a list", value)
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items.append(read_item(item, item_type))
            except DecodeError as exc:
                raise exc.inside(index) from None
        return tuple(items)

    return read_list
