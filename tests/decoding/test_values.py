"""How values are read: what a field takes besides its own type, what it refuses, and where it says so."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from primepods import Disk, Pod, PodStatus
from primepods._decoding.fields import DecodeError
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page, rows_of
from tests.fixtures import document

POD_ROW: dict[str, Any] = document("pods_page")["data"][0]


def pod(**fields: Any) -> Pod:
    """The first sample pod with some fields changed."""
    page, errors = decode_page({"data": [{**POD_ROW, **fields}]}, Pod, 0, 1)
    for error in errors:
        raise error
    return page[0]


def status(**fields: Any) -> PodStatus:
    """A pod's status of some fields."""
    (row,) = decode_statuses({"data": [{"podId": "p", **fields}]})[0]
    return row


def error_of(row: Any, index: int = 0) -> DecodeError:
    """What is said of a pod's row that cannot be read, behind some that can."""
    (error,) = decode_page({"data": [*[POD_ROW] * index, row]}, Pod, 0, 1)[1]
    assert str(error) == f"{error.path}: {error.reason}"
    assert (error.__traceback__, error.__context__) == (None, None)
    return error


@pytest.mark.parametrize(
    ("field", "sent", "value"),
    [
        *(("gpuCount", sent, 8) for sent in (8, "8", " 8 ", "+8", "8.0", 8.9, "8.9", "0.8e1")),
        *(("gpuCount", sent, 0) for sent in (0, "-0", -0.5, "-0.5", 0.5, "1e-999")),
        *(("gpuCount", sent, -8) for sent in (-8, "-8", -8.9, "-8.9")),
        *(("priceHr", sent, 1.5) for sent in (1.5, "1.5", " 1.5 ", "15e-1")),
        *(("priceHr", sent, 2.0) for sent in (2, "2")),
        *(("id", sent, "17") for sent in (17, "17")),
        *(("id", sent, "1.5") for sent in (1.5, "1.5")),
    ],
)
def test_numbers_may_come_as_text_and_the_other_way(field: str, sent: Any, value: Any) -> None:
    """A fraction is cut off where none is expected: a progress of 99.5 is no reason to fail."""
    read = getattr(pod(**{field: sent}), {"gpuCount": "gpu_count", "priceHr": "price_hr", "id": "id"}[field])
    assert (read, type(read)) == (value, type(value))
    if field == "id":
        assert pod(ip=[sent, None]).ip == (value, None)


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        *[("100", 100), (100, 100), (None, None), ("", ""), ("100GB", "100GB"), ("1.5", "1.5"), (1.5, "1.5")],
        *[("1_0", "1_0"), ("٣", "٣"), ("9" * 5_000, "9" * 5_000)],
    ],
)
def test_a_size_is_a_whole_number_or_what_the_api_wrote(sent: Any, value: Any) -> None:
    """Nothing is cut off a size, and a unit stays."""
    size = pod(attachedResources=[{"id": 1, "size": sent}]).attached_resources[0].size
    assert (size, type(size)) == (value, type(value))


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("2026-11-07T05:31:56Z", datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)),
        ("2026-11-07t05:31:56z", datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)),
        ("2026-11-07 05:31:56", datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)),
        ("2026-11-07T05:31:56.5+02:00", datetime(2026, 11, 7, 3, 31, 56, 500_000, tzinfo=UTC)),
        ("2026-11-07T05:31:56.123456789Z", datetime(2026, 11, 7, 5, 31, 56, 123_456, tzinfo=UTC)),
        ("2026-11-07", datetime(2026, 11, 7, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        (None, None),
    ],
)
def test_moments_have_a_zone(sent: str | None, value: datetime | None) -> None:
    """With an offset, with Z, or without either, which means UTC."""
    moment = pod(createdAt=sent).created_at
    assert moment == value
    assert moment is None or moment.utcoffset() is not None


@pytest.mark.parametrize(
    ("row", "cost"),
    [
        ({"costPerHr": 3.52}, 3.52),
        ({"priceHr": 30.4}, 30.4),
        ({"costPerHr": None, "priceHr": "30.4"}, 30.4),
        ({"costPerHr": 3.52, "priceHr": 30.4}, 3.52),
        ({"costPerHr": 0, "priceHr": 30.4}, 0.0),
        ({"priceHr": None}, None),
        ({}, None),
    ],
)
def test_a_status_has_one_price(row: dict[str, Any], cost: float | None) -> None:
    """The page's name and the official client's are one field, the page's first."""
    assert (status(**row).cost_per_hr, status(**row).extra) == (cost, {})


def test_strange_keys_are_just_unknown_fields() -> None:
    """No key of the API can get in the way of how unknown fields are carried."""
    strange = {"$extra": 1, "extra": 3, "": 4, "pod_id": 5, "__class__": 6, "gpu_name": 7}
    assert status(**strange).extra == pod(**strange).extra == strange


TEXTS: list[Any] = [{}, [], True, {"a": 1}]
NUMBERS: list[Any] = ["many", "", "nan", "inf", "1_000", "٣", "1e999", "9" * 5_000, {}, [], True, "0x10"]
BOOLEANS: list[Any] = ["true", 0, 1, {}]
MOMENTS: list[Any] = [
    *["yesterday", "", 5, 5.5, {}, [], True, "2026-13-01T00:00:00Z", "2026-11-07T05:31:61Z", "2026-11-07TZ"],
    *["2025-W01-1", "2025-W01-1T00:00:00Z", "2025W01", "0001-01-01T00:00:00+00:01"],
    "9999-12-31T23:59:59-00:01",
]
OBJECTS: list[Any] = [None, "text", 5, True, []]
LISTS: list[Any] = [{}, "text", 5, True]
PLACES: dict[str, list[Any]] = {
    "": OBJECTS,
    ".id": TEXTS,
    ".gpuName": [None, *TEXTS],
    ".gpuCount": [None, *NUMBERS],
    ".priceHr": [None, *NUMBERS],
    ".stoppedPriceHr": NUMBERS,
    ".createdAt": MOMENTS,
    ".isSpot": BOOLEANS,
    ".status": TEXTS,
    ".installationStatus": TEXTS,
    ".ip": [{}, 5, True, [{}], [[]]],
    ".primePortMapping": LISTS,
    ".primePortMapping[0]": OBJECTS,
    ".primePortMapping[1].external": [None, *TEXTS],
    ".resources": OBJECTS[1:],
    ".resources.shared_disk": NUMBERS,
    ".attachedResources": LISTS,
    ".attachedResources[0].id": [None, *TEXTS],
    ".attachedResources[0].isDetachable": BOOLEANS,
    ".attachedResources[1].size": TEXTS,
}
REQUIRED = [
    *(".gpuName", ".gpuCount", ".priceHr", ".providerType"),
    *(".primePortMapping[1].internal", ".attachedResources[0].id"),
]
ABSENT = object()


def broken_at(place: str, value: Any) -> Any:
    """A pod's row with two of each part, and another value, or none, at a place like `.ip[0]`."""
    holder = json.loads(json.dumps({"": POD_ROW}))
    for part in ("primePortMapping", "attachedResources"):
        holder[""][part] = [dict(POD_ROW[part][0]), dict(POD_ROW[part][0])]
    target: Any = holder
    *way, last = ("", *place.replace("[", ".").replace("]", "").split(".")[1:])
    for key in way:
        target = target[int(key) if key.isdecimal() else key]
    if value is ABSENT:
        del target[last]
    else:
        target[int(last) if last.isdecimal() else last] = value
    return holder[""]


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in PLACES for value in PLACES[place]])
def test_a_wrong_value_is_named_by_its_place_on_the_wire(place: str, value: Any) -> None:
    """The path is spelt as the API spells it, with the index of the row, and shows what stood there."""
    for index in (0, 3):
        error = error_of(broken_at(place, value), index)
        assert error.path == f"data[{index}]{place}"
        assert error.reason.startswith("expected ")
        assert error.value == value or error.value in value


@pytest.mark.parametrize("place", REQUIRED)
def test_what_is_missing_is_named_as_well(place: str) -> None:
    """Fields without which a pod is none; all others may be absent."""
    assert str(error_of(broken_at(place, ABSENT), 1)) == f"data[1]{place}: is missing"


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"costPerHr": "free", "priceHr": 1}, "data[0].costPerHr"),
        ({"costPerHr": None, "priceHr": "free"}, "data[0].priceHr"),
        ({"priceHr": "free"}, "data[0].priceHr"),
    ],
)
def test_a_field_with_two_names_is_called_as_it_was_sent(row: dict[str, Any], path: str) -> None:
    """The name of the field whose value counts is the one that is shown."""
    (error,) = decode_statuses({"data": [{"podId": "p", **row}]})[1]
    assert error.path == path


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[(None, "null"), (True, "true"), ("", "''"), ("a\x1bb", r"'a\x1bb'"), ({"a": 1}, "an object")],
        *[([1], "a list"), ("x" * 58, f"'{'x' * 58}'"), ("x" * 59, "61 characters")],
    ],
)
def test_what_stood_in_place_of_a_number_is_named(value: Any, name: str) -> None:
    """In JSON's words, in full where it is short, and without what moves a cursor."""
    error = error_of({**POD_ROW, "priceHr": value})
    assert error.reason == f"expected a number, got {name}"
    assert error.value == value


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("place", [".gpuCount", ".name", ".ip", ".primePortMapping", ".resources", ".x"])
def test_deep_nesting_is_a_wrong_value_and_no_crash(place: str) -> None:
    """As deep as a decoder of JSON lets through; an unknown field may have forty levels."""
    assert error_of(broken_at(place, nested(1_000))).path.startswith("data[0]")
    assert pod(aNewField=nested(39)) == pod(aNewField=nested(39))
    assert "an object of at most 40 levels" in error_of({**POD_ROW, "aNewField": nested(40)}).reason
    [disk], [error] = rows_of(
        {"data": [{"id": "a", "info": {"x": nested(levels)}} for levels in (39, 40)]}, Disk
    )
    assert json.loads(json.dumps(disk.to_dict()))["info"] == {"x": nested(39)}
    assert error.path == "data[1].info"
