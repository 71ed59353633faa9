"""The second pass of decoding: slower, it finds the place that is wrong. The only importer of cattrs."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeVar

from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from .._utils.strict_json import is_object
from ..models import PodStatus
from .fields import (
    ALIASES,
    HOOKS,
    MODELS,
    DecodeError,
    Hook,
    Inside,
    Mismatch,
    list_of,
    model_hooks,
    number,
    unknown,
    wire_name,
    wire_names,
)

T = TypeVar("T")

# Carries the unknown fields into `extra`. Should the API ever send such a key, it is an unknown field too.
_EXTRA_KEY: Final = "$extra"


def decode_again(row: Any, model: type[T], path: str) -> T:
    """Decode a row that the first pass has refused.

    Args:
        row: Decoded JSON.
        model: What it should be.
        path: Where it stands in the answer.

    Raises:
        DecodeError: It is not what it should be; says where.
    """
    try:
        return converter().structure(row, model)
    except Exception as exc:  # noqa: BLE001 - whatever a hook raises on a strange value is a mismatch
        error = _locate(exc, path)
        error.row_id = _row_id(row, model)
        raise error from None


def _row_id(row: Any, model: Any) -> str | None:
    """Return the id in a row that cannot be read, if the id can."""
    try:
        found = row["podId" if model is PodStatus else "id"]
        return None if found is None else HOOKS[str](found, str)
    except (LookupError, TypeError, Mismatch):
        return None


@cache
def converter() -> Converter:
    """Return the converter, made at its first use."""
    made = Converter(detailed_validation=True)
    for kind, hook in HOOKS.items():
        _register(made, kind, hook)
    for model in MODELS:
        hook = _hook(made, model)
        for kind, each in model_hooks(model, hook, list_of(hook)).items():
            _register(made, kind, each)
    return made


def _register(converter: Converter, kind: Any, hook: Hook) -> None:
    if isinstance(kind, type):
        converter.register_structure_hook(kind, hook)
    else:
        # cattrs finds a type that is no class by comparing.
        converter.register_structure_hook_func(lambda found: found == kind, hook)


def _hook(converter: Converter, model: Any) -> Hook:
    names = wire_names(model)
    overrides: dict[str, Any] = {name: override(rename=wire) for name, wire in names.items()}
    overrides["extra"] = override(rename=_EXTRA_KEY, struct_hook=lambda value, _: value)
    inner = make_dict_structure_fn(model, converter, **overrides)
    known = {*names.values(), *ALIASES.get(model, {}).values()}

    def read(value: Any, kind: Any) -> Any:
        if not is_object(value):
            raise Mismatch("an object", value)
        row = _status_price(value) if model is PodStatus else value
        if not row.keys() <= known:
            row = {**row, _EXTRA_KEY: unknown(row, row.keys() - known)}
        return inner(row, kind)

    return read


def _status_price(row: dict[str, Any]) -> dict[str, Any]:
    """Bring the two spellings of a status row's price to the page's one."""
    price = row.get("priceHr")
    if price is None or row.get("costPerHr") is not None:
        return row
    try:
        return {**row, "costPerHr": number(price, float)}
    except Mismatch as exc:
        raise Inside(".priceHr", exc) from None


def _locate(exc: Exception, path: str) -> DecodeError:
    """Follow an error of the precise converter down to the value that caused it."""
    while True:
        if isinstance(exc, ClassValidationError):
            placed, _ = exc.group_exceptions()
            inner, note = placed[0]
            name = wire_name(note.name)
            path, exc = f"{path}.{name}" if path else name, inner
        elif isinstance(exc, Inside):
            path, exc = f"{path}{exc.place}", exc.cause
        elif isinstance(exc, KeyError):
            return DecodeError(path, "is missing", None)
        else:
            return DecodeError(path, str(exc), getattr(exc, "value", None))
