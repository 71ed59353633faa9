"""From decoded JSON to models: the only importer of cattrs.

Decoding runs in two passes. The first is fast and says nothing of where it failed; only when it fails is the
same row decoded again by a slower converter that finds the place, in the wire's spelling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from ._compile import compile_decoder, reusing
from ._json import is_list, is_object, show
from .models import (
    NO_EXTRA,
    AttachedResource,
    HistoryRecord,
    InstallationState,
    Page,
    Pod,
    PodState,
    PodStatus,
    PortMapping,
    Resources,
)

T = TypeVar("T")

# Carries the unknown fields into `extra`. Should the API ever send such a key, it is an unknown field too.
_EXTRA_KEY: Final = "$extra"
_KEPT_NAMES: Final = frozenset({"shared_disk"})
_ALIASES: Final[Mapping[Any, Mapping[str, str]]] = {PodStatus: {"cost_per_hr": "priceHr"}}
_REPEATED: Final = frozenset({PortMapping, Resources})
"""Parts of a row that are mostly like those of other rows."""
_DEEPEST_EXTRA: Final = 40
_LOG_KEYS: Final = ("logs", "log", "data", "message", "line", "content", "output")


class DecodeError(Exception):
    """The answer has not the promised shape. ``path`` says where, ``value`` what stood there."""

    def __init__(self, path: str, reason: str, value: object) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason
        self.value = value


class _Mismatch(ValueError):  # noqa: N818 - what it says is caught and put into words below
    """A value that its field cannot hold."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(f"expected {expected}, got {describe(value)}")
        self.value = value


class _Inside(Exception):  # noqa: N818 - a marker on the way to a DecodeError
    """Something went wrong at ``place``, such as ``[3]`` or ``.priceHr``."""

    def __init__(self, place: str, cause: Exception) -> None:
        super().__init__(place, cause)
        self.place = place
        self.cause = cause


def describe(value: object) -> str:
    """Name a JSON value briefly, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        # In full or not at all: a secret that is cut could no longer be told and redacted.
        text = repr(value)
        longest = 60
        return text if len(text) <= longest else f"{len(text):,} characters"
    return "an object" if is_object(value) else "a list"


def decode_pod(data: Any, pod_id: str) -> Pod:
    """Decode the answer of ``GET /pods/{id}``; ``pod_id`` stands in for an id that it lacks."""
    row = _object(data, "")
    pod = _row(row if row.get("id") is not None else {**row, "id": pod_id}, Pod, "")
    if pod.id != pod_id:
        # A cache or a proxy that mixes up answers: this is the state of another pod.
        raise DecodeError("id", str(_Mismatch(describe(pod_id), pod.id)), pod.id)
    return pod


def decode_pods(data: Any, offset: int, limit: int) -> Page[Pod]:
    """Decode a page of ``GET /pods/``."""
    return _page(data, Pod, offset, limit)


def decode_history(data: Any, offset: int, limit: int) -> Page[HistoryRecord]:
    """Decode a page of ``GET /pods/history``."""
    return _page(data, HistoryRecord, offset, limit)


def decode_statuses(data: Any) -> tuple[PodStatus, ...]:
    """Decode the rows of ``GET /pods/status``; ``data: null`` has none."""
    return _rows(_object(data, "").get("data"), PodStatus)


def decode_deletion(data: Any) -> PodState:
    """Decode the answer of ``DELETE /pods/{id}``; an empty one means that the deletion has begun."""
    if data is None:
        return PodState.DELETING
    status = _object(data, "").get("status")
    if not isinstance(status, str):
        raise DecodeError("status", str(_Mismatch("a pod status", status)), status)
    return PodState(status)


def decode_log(data: Any) -> str:
    """Find the text in whatever JSON the log came wrapped in."""
    try:
        return _log_text(data)
    except RecursionError:
        return show(data)


def _log_text(data: Any) -> str:
    if data is None:
        return ""
    if isinstance(data, str):
        return data
    if is_list(data):
        return "\n".join([_log_text(item) for item in data])
    if is_object(data):
        for key in _LOG_KEYS:
            if key in data:
                return _log_text(data[key])
    return show(data)


def _object(data: Any, path: str) -> dict[str, Any]:
    if not is_object(data):
        raise DecodeError(path, str(_Mismatch("an object", data)), data)
    return data


def _page(data: Any, model: type[T], offset: int, limit: int) -> Page[T]:
    body = _object(data, "")
    if "data" not in body:
        raise DecodeError("data", "is missing", body)
    return Page(
        total_count=_count(body.get("total_count"), "total_count"),
        offset=_count(body.get("offset"), "offset", offset) or 0,
        limit=_count(body.get("limit"), "limit", limit) or 0,
        data=_rows(body["data"], model),
    )


def _count(value: Any, path: str, default: int | None = None) -> int | None:
    try:
        return default if value is None else max(0, _integer(value, int))
    except _Mismatch as exc:
        raise DecodeError(path, str(exc), value) from None


def _rows(rows: Any, model: type[T]) -> tuple[T, ...]:
    if rows is None:
        return ()
    if not is_list(rows):
        raise DecodeError("data", str(_Mismatch("a list", rows)), rows)
    decode = _FAST.get_structure_hook(model)
    done: list[T] = []
    for row in rows:
        try:
            done.append(decode(row, model))
        except Exception:  # noqa: BLE001 - the second pass raises it again, with its place
            done.append(_again(row, model, f"data[{len(done)}]"))
    return tuple(done)


def _row(row: Any, model: type[T], path: str) -> T:
    """Decode one row."""
    try:
        return _FAST.structure(row, model)
    except Exception:  # noqa: BLE001 - as in `_rows`
        return _again(row, model, path)


def _again(row: Any, model: type[T], path: str) -> T:
    """Decode a row that the first pass has refused; say where it is wrong."""
    try:
        return _PRECISE.structure(row, model)
    except Exception as exc:  # noqa: BLE001 - whatever a hook raises on a strange value is a mismatch
        raise _locate(exc, path) from None


def _locate(exc: Exception, path: str) -> DecodeError:
    """Follow an error of the precise converter down to the value that caused it."""
    while True:
        if isinstance(exc, ClassValidationError):
            placed, _ = exc.group_exceptions()
            inner, note = placed[0]
            name = _wire_name(note.name)
            path, exc = f"{path}.{name}" if path else name, inner
        elif isinstance(exc, _Inside):
            path, exc = f"{path}{exc.place}", exc.cause
        elif isinstance(exc, KeyError):
            return DecodeError(path, "is missing", None)
        else:
            return DecodeError(path, str(exc), getattr(exc, "value", None))


def _wire_name(name: str) -> str:
    if name in _KEPT_NAMES:
        return name
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _text(value: Any, _: object) -> str:
    if value.__class__ is str:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _Mismatch("a string", value)


def _number(value: Any, _: object) -> float:
    if value.__class__ is float or value.__class__ is int:
        number = float(value)
    elif isinstance(value, str) and "_" not in value:
        try:
            number = float(value)
        except ValueError:
            raise _Mismatch("a number", value) from None
    else:
        raise _Mismatch("a number", value)
    if not math.isfinite(number):
        raise _Mismatch("a finite number", value)
    return number


def _integer(value: Any, _: object) -> int:
    """Read a whole number; a fraction is cut off, since a progress of 99.5 is no reason to fail."""
    if value.__class__ is int:
        return value
    if isinstance(value, str) and value.strip().isdecimal():
        try:
            return int(value)
        except ValueError:
            raise _Mismatch("an integer", value[:20]) from None
    return math.floor(_number(value, float))


def _boolean(value: Any, _: object) -> bool:
    if value.__class__ is bool:
        return value
    raise _Mismatch("true or false", value)


def _moment(value: Any, _: object) -> datetime:
    if not isinstance(value, str):
        raise _Mismatch("a date and time", value)
    try:
        moment = datetime.fromisoformat(value if value[-1:] == "Z" else value.upper())
    except ValueError:
        raise _Mismatch("a date and time", value) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _size(value: Any, _: object) -> int | str | None:
    """Read a size: a whole number where it is one, else the API's text."""
    if value is None or value.__class__ is int:
        return value
    text = _text(value, str)
    return _integer(text, int) if text.strip().isdecimal() else text


def _per_node(value: Any, _: object) -> str | tuple[str | None, ...] | None:
    """Read an address field: one string, or a list with an entry (or null) for each node."""
    if value is None or value.__class__ is str:
        return value
    if is_list(value):
        return tuple(None if node is None else _text(node, str) for node in value)
    raise _Mismatch("a string or a list of strings", value)


def _state(value: Any, _: object) -> PodState:
    return PodState(_text(value, str))


def _installation(value: Any, _: object) -> InstallationState:
    return InstallationState(_text(value, str))


def _optional(hook: Callable[[Any, Any], T]) -> Callable[[Any, Any], T | None]:
    def read(value: Any, kind: Any) -> T | None:
        return None if value is None else hook(value, kind)

    return read


def _list_of(decode: Callable[[Any, Any], T]) -> Callable[[Any, Any], tuple[T, ...]]:
    def read(value: Any, kind: Any) -> tuple[T, ...]:
        if value is None:
            return ()
        if not is_list(value):
            raise _Mismatch("a list", value)
        done: list[T] = []
        for item in value:
            try:
                done.append(decode(item, kind))
            except Exception as exc:  # noqa: BLE001 - carries any failure and its index up
                raise _Inside(f"[{len(done)}]", exc) from None
        return tuple(done)

    return read


def _precise_hook(converter: Converter, model: Any) -> Callable[[Any, Any], Any]:
    names = _wire_names(model)
    overrides: dict[str, Any] = {name: override(rename=wire) for name, wire in names.items()}
    overrides["extra"] = override(rename=_EXTRA_KEY, struct_hook=lambda value, _: value)
    inner = make_dict_structure_fn(model, converter, **overrides)
    known = {*names.values(), *_ALIASES.get(model, {}).values()}

    def read(value: Any, kind: Any) -> Any:
        row = _row_of(model, value)
        if not row.keys() <= known:
            row = {**row, _EXTRA_KEY: _unknown(row, row.keys() - known)}
        return inner(row, kind)

    return read


def _fast_hook(converter: Converter, model: Any) -> Callable[[Any, Any], Any]:
    names, hook_of = _wire_names(model), converter.get_structure_hook
    return compile_decoder(
        model, names, hook_of, aliases=_ALIASES.get(model, {}), extra=NO_EXTRA, unknown=_unknown
    )


def _unknown(row: dict[str, Any], keys: AbstractSet[str]) -> dict[str, Any]:
    """Return a row's unknown fields. What is nested without end could not be compared, copied or pickled."""
    rest = {key: row[key] for key in keys}
    if not _is_flat(rest, _DEEPEST_EXTRA):
        raise _Mismatch(f"unknown fields of at most {_DEEPEST_EXTRA} levels", row)
    return rest


def _is_flat(value: Any, levels: int) -> bool:
    """Tell whether a value is nested at most so deep."""
    if is_object(value):
        return levels > 0 and all(_is_flat(item, levels - 1) for item in value.values())
    if is_list(value):
        return levels > 0 and all(_is_flat(item, levels - 1) for item in value)
    return True


def _row_of(model: Any, value: Any) -> dict[str, Any]:
    if not is_object(value):
        raise _Mismatch("an object", value)
    return _status_price(value) if model is PodStatus else value


def _wire_names(model: Any) -> dict[str, str]:
    return {field.name: _wire_name(field.name) for field in attrs.fields(model) if field.name != "extra"}


def _status_price(row: dict[str, Any]) -> dict[str, Any]:
    """Bring the two spellings of a status row's price to the page's one."""
    price = row.get("priceHr")
    if price is None or row.get("costPerHr") is not None:
        return row
    try:
        return {**row, "costPerHr": _number(price, float)}
    except _Mismatch as exc:
        raise _Inside(".priceHr", exc) from None


def _converter(*, precise: bool) -> Converter:
    converter = Converter(detailed_validation=precise)
    scalars: Mapping[Any, Callable[[Any, Any], Any]] = {
        str: _text,
        int: _integer,
        float: _number,
        bool: _boolean,
        datetime: _moment,
        PodState: _state,
        InstallationState: _installation,
    }
    for kind, hook in scalars.items():
        converter.register_structure_hook(kind, hook)
        _register_exact(converter, kind | None, _optional(hook))
    _register_exact(converter, int | str | None, _size)
    _register_exact(converter, str | tuple[str | None, ...] | None, _per_node)
    # Inner models first: the outer ones' decoders are compiled with the hooks they find.
    models: tuple[Any, ...] = (PortMapping, Resources, AttachedResource, Pod, PodStatus, HistoryRecord)
    for model in models:
        hook = _precise_hook(converter, model) if precise else _fast_hook(converter, model)
        many: Callable[[Any, Any], Any] = _list_of(hook)
        if model in _REPEATED and not precise:
            hook, many = reusing(hook), reusing(many)
        converter.register_structure_hook(model, hook)
        _register_exact(converter, model | None, _optional(hook))
        _register_exact(converter, tuple.__class_getitem__((model, ...)), many)
    return converter


def _register_exact(converter: Converter, kind: Any, hook: Callable[[Any, Any], Any]) -> None:
    """Register a hook for a type that is no class, which cattrs finds by comparing."""
    converter.register_structure_hook_func(lambda t: t == kind, hook)


_FAST: Final = _converter(precise=False)
_PRECISE: Final = _converter(precise=True)
