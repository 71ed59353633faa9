"""From bytes to models: whatever the schema allows is decoded, and what breaks it is named by its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods import (
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
from primepods._decoding.fields import DecodeError
from primepods._decoding.rows import (
    decode_deletion,
    decode_history,
    decode_log,
    decode_pod,
    decode_pods,
    decode_statuses,
)
from tests.fixtures import document
from tests.support.json_values import VALUES

# --- The shapes of the schema, typed again --------------------------------------------------------------

WORDS = st.text(max_size=12)
COUNTS = st.integers(-(2**53), 2**53)
MONEY = st.floats(allow_nan=False, allow_infinity=False) | COUNTS
MOMENTS = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001 - the zone comes with the strategy
    datetime(9998, 1, 1),  # noqa: DTZ001 - as above
    timezones=st.just(UTC) | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))),
)
STATES = st.sampled_from([*(str(state) for state in PodState), "HIBERNATING"]) | WORDS
INSTALLATIONS = st.sampled_from([*(str(state) for state in InstallationState), "VERIFYING"]) | WORDS
PER_NODE = st.none() | WORDS | st.lists(st.none() | WORDS, max_size=3)


def rfc3339(moment: datetime) -> st.SearchStrategy[str]:
    """The ways in which a server may write a moment."""
    text = moment.isoformat()
    spellings = {
        text,
        moment.isoformat(sep=" "),
        text.lower(),
        text.replace("+00:00", "Z"),
        text.replace("+00:00", "z"),
    }
    return st.sampled_from(sorted(spellings))


TIMES = MOMENTS.flatmap(rfc3339)


def shape(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> Any:
    """An object with all required fields, some of the optional ones, and some that nobody knows."""
    known = st.fixed_dictionaries(required, optional=optional)
    names = WORDS.filter(lambda name: name not in {**required, **optional, **OTHERS})
    return st.builds(lambda row, extra: {**extra, **row}, known, st.dictionaries(names, VALUES, max_size=2))


# Fields that models know and that the schema does not have everywhere.
OTHERS = dict.fromkeys(
    ["jupyterPassword", "basePriceHr", "baseCurrency", "costPerHr", "priceHr", "primePortMapping"]
)

PORT_MAPPING = shape(
    {"internal": WORDS, "external": WORDS, "protocol": WORDS},
    {"usedBy": st.none() | WORDS, "description": st.none() | WORDS},
)
RESOURCES = shape({}, dict.fromkeys(["memory", "disk", "shared_disk", "vcpus"], st.none() | COUNTS))
ATTACHED = shape(
    {"resourceType": WORDS, "id": WORDS | COUNTS},
    {
        "status": WORDS,
        "isDetachable": st.booleans(),
        "mountPath": WORDS,
        "resourcePath": st.none() | WORDS,
        "size": st.none() | COUNTS | WORDS,
        "isShared": st.none() | st.booleans(),
    },
)
POD = shape(
    {
        "id": WORDS,
        "userId": WORDS,
        "name": WORDS,
        "providerType": WORDS,
        "gpuName": WORDS,
        "gpuCount": COUNTS,
        "socket": WORDS,
        "priceHr": MONEY,
    },
    {
        **dict.fromkeys(["teamId", "walletId", "customTemplateId", "clusterId"], st.none() | WORDS),
        "type": WORDS,
        "environmentType": WORDS,
        "status": STATES,
        "installationStatus": INSTALLATIONS,
        "installationFailure": st.none() | WORDS,
        "installationProgress": st.none() | COUNTS,
        **dict.fromkeys(["createdAt", "updatedAt"], TIMES),
        "terminatedAt": st.none() | TIMES,
        **dict.fromkeys(["stoppedPriceHr", "provisioningPriceHr"], st.none() | MONEY),
        "primePortMapping": st.none() | st.lists(PORT_MAPPING, max_size=2),
        "sshConnection": PER_NODE,
        "ip": PER_NODE,
        "resources": st.none() | RESOURCES,
        "attachedResources": st.none() | st.lists(ATTACHED, max_size=2),
        "isSpot": st.none() | st.booleans(),
        "autoRestart": st.none() | st.booleans(),
    },
)
STATUS = shape(
    {"podId": WORDS, "providerType": WORDS, "status": STATES},
    {
        "sshConnection": PER_NODE,
        "ip": PER_NODE,
        "installationStatus": st.none() | INSTALLATIONS,
        "installationFailure": st.none() | WORDS,
        "installationProgress": st.none() | COUNTS,
        "costPerHr": st.none() | MONEY,
        "priceHr": st.none() | MONEY,
        "primePortMapping": st.none() | st.lists(PORT_MAPPING, max_size=2),
    },
)
RECORD = shape(
    {
        **dict.fromkeys(["id", "name", "providerType", "type", "gpuName", "userId"], WORDS),
        "createdAt": TIMES,
        "gpuCount": COUNTS,
        "priceHr": MONEY,
        "totalBilledPrice": MONEY,
    },
    {
        **dict.fromkeys(["provisionedBy", "socket", "teamId"], st.none() | WORDS),
        "terminatedAt": st.none() | TIMES,
    },
)


def page_of(row: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A page of a listing."""
    counts = st.integers(0, 2**40)
    return st.fixed_dictionaries(
        {"data": st.lists(row, max_size=3)},
        optional={"total_count": counts, "offset": counts, "limit": counts, "status": st.none() | WORDS},
    )


# Wire name and attribute of each field, for each model.
SHARED = {
    "status": "status",
    "installationStatus": "installation_status",
    "installationFailure": "installation_failure",
    "installationProgress": "installation_progress",
    "primePortMapping": "prime_port_mapping",
    "sshConnection": "ssh_connection",
    "ip": "ip",
    "providerType": "provider_type",
}
NAMES: dict[type[Any], dict[str, str]] = {
    Pod: {
        **SHARED,
        "id": "id",
        "userId": "user_id",
        "teamId": "team_id",
        "walletId": "wallet_id",
        "name": "name",
        "type": "type",
        "createdAt": "created_at",
        "updatedAt": "updated_at",
        "terminatedAt": "terminated_at",
        "gpuName": "gpu_name",
        "gpuCount": "gpu_count",
        "socket": "socket",
        "priceHr": "price_hr",
        "stoppedPriceHr": "stopped_price_hr",
        "provisioningPriceHr": "provisioning_price_hr",
        "basePriceHr": "base_price_hr",
        "baseCurrency": "base_currency",
        "environmentType": "environment_type",
        "customTemplateId": "custom_template_id",
        "clusterId": "cluster_id",
        "resources": "resources",
        "attachedResources": "attached_resources",
        "isSpot": "is_spot",
        "autoRestart": "auto_restart",
        "jupyterPassword": "jupyter_password",
    },
    PodStatus: {**SHARED, "podId": "pod_id", "costPerHr": "cost_per_hr"},
    HistoryRecord: {
        "id": "id",
        "name": "name",
        "providerType": "provider_type",
        "provisionedBy": "provisioned_by",
        "type": "type",
        "createdAt": "created_at",
        "terminatedAt": "terminated_at",
        "gpuName": "gpu_name",
        "gpuCount": "gpu_count",
        "socket": "socket",
        "priceHr": "price_hr",
        "userId": "user_id",
        "teamId": "team_id",
        "totalBilledPrice": "total_billed_price",
    },
    PortMapping: {
        "internal": "internal",
        "external": "external",
        "protocol": "protocol",
        "usedBy": "used_by",
        "description": "description",
    },
    Resources: {"memory": "memory", "disk": "disk", "shared_disk": "shared_disk", "vcpus": "vcpus"},
    AttachedResource: {
        "resourceType": "resource_type",
        "id": "id",
        "status": "status",
        "isDetachable": "is_detachable",
        "mountPath": "mount_path",
        "resourcePath": "resource_path",
        "size": "size",
        "isShared": "is_shared",
    },
}
LISTS = {"primePortMapping", "attachedResources"}


def expect(model: Any, row: dict[str, Any]) -> None:
    """Compare a model with the row it was made from: every field of either side is accounted for."""
    row = dict(row)
    if isinstance(model, PodStatus):
        price = row.pop("priceHr", None)
        row["costPerHr"] = price if row.get("costPerHr") is None else row["costPerHr"]
    names = NAMES[type(model)]
    assert {field.name for field in attrs.fields(type(model))} == {*names.values(), "extra"}
    assert model.extra == {key: value for key, value in row.items() if key not in names}
    for name, attribute in names.items():
        value, sent = getattr(model, attribute), row.get(name)
        if name in LISTS:
            assert len(value) == len(sent or ())
            for inner, inner_row in zip(value, sent or (), strict=True):
                expect(inner, inner_row)
        elif isinstance(sent, dict):
            expect(value, sent)
        else:
            assert value == plain(name, sent)
            assert value is None or type(value) is not str or type(sent) in {str, int}


def plain(name: str, sent: Any) -> Any:
    """What a field without fields of its own must hold for what was sent."""
    if sent is not None and name.endswith("At"):
        return datetime.fromisoformat(sent.upper())
    if name == "size" and isinstance(sent, str) and sent.strip().isdecimal():
        return int(sent)
    if name == "id":
        return str(sent)
    return tuple(sent) if isinstance(sent, list) else sent


def pods(data: Any, offset: int = 0, limit: int = 100) -> Page[Pod]:
    """A page of pods; the first row that cannot be read is raised."""
    decoded = decode_pods(data, offset, limit)
    return decoded.page if not decoded.errors else fail(decoded.errors[0])


def history(data: Any, offset: int = 0, limit: int = 100) -> Page[HistoryRecord]:
    """A page of records; as `pods`."""
    decoded = decode_history(data, offset, limit)
    return decoded.page if not decoded.errors else fail(decoded.errors[0])


def statuses(data: Any) -> tuple[PodStatus, ...]:
    """Status rows; as `pods`."""
    decoded = decode_statuses(data)
    return decoded.rows if not decoded.errors else fail(decoded.errors[0])


def fail(error: DecodeError) -> NoReturn:
    """Raise the error of a row."""
    raise error


LISTINGS: dict[str, tuple[Callable[[Any], Any], st.SearchStrategy[Any]]] = {
    "pods": (lambda data: pods(data, 7, 9), page_of(POD)),
    "history": (lambda data: history(data, 7, 9), page_of(RECORD)),
    "statuses": (
        statuses,
        st.fixed_dictionaries(
            {"data": st.none() | st.lists(STATUS, max_size=3)}, optional={"status": st.none()}
        ),
    ),
}


@pytest.mark.parametrize("listing", LISTINGS)
@given(data=st.data())
def test_whatever_the_schema_allows_is_decoded(listing: str, data: st.DataObject) -> None:
    """Every field arrives at its attribute with its value, what is unknown in `extra`, and nothing else."""
    decode, documents = LISTINGS[listing]
    body = data.draw(documents)
    before = copy.deepcopy(body)
    page = decode(body)
    assert body == before
    rows = body.get("data") or []
    assert len(tuple(page)) == len(rows)
    for model, row in zip(page, rows, strict=True):
        expect(model, row)
    if listing != "statuses":
        assert (page.total_count, page.offset, page.limit) == (
            body.get("total_count"),
            body.get("offset", 7),
            body.get("limit", 9),
        )


@given(POD)
def test_one_pod_is_decoded_as_a_row_of_the_list_is(row: Any) -> None:
    """`get` and `list` make the same of the same pod; only `get` knows the id that an answer lacks."""
    listed = pods({"data": [row]}, 0, 1).data[0]
    assert decode_pod(row, listed.id) == listed
    with pytest.raises(DecodeError, match=r"^id: expected .*, got "):
        decode_pod(row, f"{listed.id[:9]}another")
    del row["id"]
    assert decode_pod(row, "asked").id == "asked"
    assert decode_pod({**row, "id": None}, "asked").id == "asked"
    with pytest.raises(DecodeError, match=r"^data\[0\]\.id: "):
        pods({"data": [row]}, 0, 1)


@pytest.mark.parametrize("name", ["pods_page", "history_page", "status_two_pods", "status_odd_rows"])
def test_the_sample_documents_are_decoded_in_full(name: str) -> None:
    """Each row of each document, field by field."""
    body = document(name)
    decode = {"pods_page": LISTINGS["pods"], "history_page": LISTINGS["history"]}.get(
        name, LISTINGS["statuses"]
    )[0]
    converted = {"memory": "128", "disk": "1000", "vcpus": "32"}
    for model, row in zip(decode(body), body["data"], strict=True):
        if row.get("resources"):
            assert row["resources"] == {**converted, "shared_disk": None}
            row["resources"] = {key: int(value) for key, value in converted.items()}
        expect(model, row)


def test_no_data_is_an_empty_list() -> None:
    """`data: null` in every listing; but the key has to be there."""
    assert statuses(document("status_null_data")) == ()
    assert pods({"data": None}, 0, 100).data == ()
    assert history({"data": None}, 3, 100).offset == 3
    with pytest.raises(DecodeError, match=r"^data: is missing"):
        pods({"total_count": 0}, 0, 100)
    with pytest.raises(DecodeError, match=r"^data: is missing"):
        statuses({"status": "ok"})


# --- Numbers, moments and addresses ---------------------------------------------------------------------

POD_ROW: dict[str, Any] = document("pods_page")["data"][0]
STATUS_ROW: dict[str, Any] = document("status_two_pods")["data"][0]
RECORD_ROW: dict[str, Any] = document("history_page")["data"][0]


def pod(**fields: Any) -> Pod:
    """The first sample pod with some fields changed."""
    return pods({"data": [{**POD_ROW, **fields}]}, 0, 1).data[0]


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (8, 8),
        ("8", 8),
        (" 8 ", 8),
        ("8.0", 8),
        (8.9, 8),
        ("8.9", 8),
        ("-1", -1),
        ("0", 0),
        ("1e3", 1000),
        (1e15, 10**15),
    ],
)
def test_integers_may_come_as_text_or_with_a_fraction(sent: Any, value: int) -> None:
    """A progress of 99.5 is no reason to fail; it is cut off."""
    assert pod(gpuCount=sent).gpu_count == value
    assert type(pod(gpuCount=sent).gpu_count) is int


@pytest.mark.parametrize(
    ("sent", "value"),
    [(1, 1.0), (1.5, 1.5), ("1.5", 1.5), ("2", 2.0), (" 2 ", 2.0), ("1e-3", 0.001), (-0.5, -0.5)],
)
def test_prices_may_come_as_text(sent: Any, value: float) -> None:
    """They are floats in any case."""
    assert pod(priceHr=sent).price_hr == value
    assert type(pod(priceHr=sent).price_hr) is float


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_as_text_are_exact(number: int) -> None:
    """No digit is lost on the way through text, however long."""
    if number >= 0:
        assert pod(gpuCount=str(number)).gpu_count == number
    assert pod(gpuCount=number).gpu_count == number


@pytest.mark.parametrize(("sent", "value"), [(8888, "8888"), ("8888", "8888"), (1.5, "1.5"), ("*", "*")])
def test_text_may_come_as_numbers(sent: Any, value: str) -> None:
    """Ports and ids are text, whatever the wire had."""
    assert pod(primePortMapping=[{"internal": sent, "external": "1"}]).prime_port_mapping[0].internal == value
    assert pod(id=sent).id == value
    assert pod(ip=[sent, None]).ip == (value, None)


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("100", 100),
        (100, 100),
        (None, None),
        ("100GB", "100GB"),
        ("1.5", "1.5"),
        (1.5, "1.5"),
        ("", ""),
        ("1_0", "1_0"),
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
        ("2026-11-07T05:31Z", datetime(2026, 11, 7, 5, 31, tzinfo=UTC)),
        ("2026-11-07", datetime(2026, 11, 7, tzinfo=UTC)),
        (None, None),
    ],
)
def test_moments_have_a_zone(sent: str | None, value: datetime | None) -> None:
    """With an offset, with Z, or without either, which means UTC."""
    moment = pod(createdAt=sent).created_at
    assert moment == value
    assert moment is None or moment.tzinfo is not None


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
    status = statuses({"data": [{"podId": "p", **row}]})[0]
    assert (status.cost_per_hr, status.extra) == (cost, {})


def test_strange_keys_are_just_unknown_fields() -> None:
    """No key of the API can get in the way of how unknown fields are carried."""
    strange = {"$extra": 1, "\0extra": 2, "extra": 3, "": 4, "pod_id": 5, "__class__": 6}
    for row in ({}, {"someNewField": 7}):
        status = statuses({"data": [{"podId": "p", **strange, **row}]})[0]
        assert status.extra == {**strange, **row}
    assert pod(**strange).extra == strange


# --- What breaks the schema -----------------------------------------------------------------------------

OBJECTS: list[Any] = [None, "text", 5, True, []]
TEXTS: list[Any] = [{}, [], True, {"a": 1}]
NUMBERS: list[Any] = ["many", "", "nan", "inf", "1_000", "1e999", {}, [], True, "0x10"]
BOOLEANS: list[Any] = ["true", 0, 1, {}, []]
MOMENTS_BAD: list[Any] = [
    "yesterday",
    "",
    5,
    5.5,
    {},
    [],
    True,
    "2026-13-01T00:00:00Z",
    "2026-11-07T05:31:61Z",
]
PLACES: dict[str, list[Any]] = {
    "": OBJECTS,
    ".id": TEXTS,
    ".name": TEXTS,
    ".gpuName": [None, *TEXTS],
    ".gpuCount": [None, *NUMBERS],
    ".priceHr": [None, *NUMBERS],
    ".stoppedPriceHr": NUMBERS,
    ".installationProgress": NUMBERS,
    ".createdAt": MOMENTS_BAD,
    ".terminatedAt": MOMENTS_BAD,
    ".isSpot": BOOLEANS,
    ".status": TEXTS,
    ".installationStatus": TEXTS,
    ".ip": [{}, 5, True],
    ".sshConnection": [{}, 5, True, [{}], [[]]],
    ".jupyterPassword": TEXTS,
    ".primePortMapping": [{}, "text", 5, True],
    ".primePortMapping[0]": OBJECTS,
    ".primePortMapping[0].external": [None, *TEXTS],
    ".primePortMapping[1].usedBy": TEXTS,
    ".resources": OBJECTS[1:],
    ".resources.memory": NUMBERS,
    ".resources.shared_disk": NUMBERS,
    ".attachedResources": [{}, "text", 5, True],
    ".attachedResources[1]": OBJECTS,
    ".attachedResources[0].id": [None, *TEXTS],
    ".attachedResources[0].isDetachable": BOOLEANS,
    ".attachedResources[1].size": TEXTS,
}


def broken_at(row: Any, place: str, value: Any) -> Any:
    """A copy of ``row`` with ``value`` at a place like `.primePortMapping[0].external`."""
    holder = json.loads(json.dumps({"": row}))
    target: Any = holder
    key: Any = ""
    for word in place.replace("[", ".").replace("]", "").split(".")[1:]:
        target, key = target[key], int(word) if word.isdecimal() else word
    target[key] = value
    return holder[""]


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in PLACES for value in PLACES[place]])
@pytest.mark.parametrize("index", [0, 3])
def test_a_wrong_shape_is_named_by_its_place_on_the_wire(place: str, value: Any, index: int) -> None:
    """The path is spelt as the API spells it, with the index of the row, and shows what stood there."""
    rows = [POD_ROW] * index
    two = {
        "primePortMapping": POD_ROW["primePortMapping"] * 2,
        "attachedResources": POD_ROW["attachedResources"] * 2,
    }
    rows.append(broken_at({**POD_ROW, **two}, place, value))
    with pytest.raises(DecodeError) as caught:
        pods({"data": rows}, 0, 100)
    error = caught.value
    assert error.path == f"data[{index}]{place}"
    assert str(error) == f"{error.path}: {error.reason}"
    assert error.reason.startswith("expected ")
    assert error.value == value or error.value in value
    assert error.__context__ is None


@pytest.mark.parametrize(
    "place",
    [
        ".gpuName",
        ".gpuCount",
        ".priceHr",
        ".providerType",
        ".primePortMapping[0].internal",
        ".attachedResources[0].id",
    ],
)
def test_what_is_missing_is_named_as_well(place: str) -> None:
    """Fields without which a pod is none; all others may be absent."""
    row = broken_at(POD_ROW, place, None)
    path, _, name = place.rpartition(".")
    parent: Any = row
    for word in path.replace("[", ".").replace("]", "").split(".")[1:]:
        parent = parent[int(word) if word.isdecimal() else word]
    del parent[name]
    with pytest.raises(DecodeError, match="is missing") as caught:
        pods({"data": [POD_ROW, row]}, 0, 100)
    assert caught.value.path == f"data[1]{place}"


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"podId": None}, "data[0].podId"),
        ({"podId": []}, "data[0].podId"),
        ({"costPerHr": "free"}, "data[0].costPerHr"),
        ({"costPerHr": "free", "priceHr": 1}, "data[0].costPerHr"),
        ({"costPerHr": None, "priceHr": "free"}, "data[0].priceHr"),
        ({"primePortMapping": [{"internal": "22"}]}, "data[0].primePortMapping[0].external"),
    ],
)
def test_a_wrong_status_row_is_named_as_well(row: dict[str, Any], path: str) -> None:
    """Also where a field has two names: the one that was sent is the one that is shown."""
    with pytest.raises(DecodeError) as caught:
        statuses({"data": [{**STATUS_ROW, **row}]})
    assert caught.value.path == path


def test_a_wrong_record_and_a_wrong_pod_are_named_as_well() -> None:
    """The path begins at the answer's top: with `data[n]` in a listing, else with the field."""
    with pytest.raises(DecodeError) as caught:
        history({"data": [RECORD_ROW, {**RECORD_ROW, "totalBilledPrice": "much"}]}, 0, 100)
    assert str(caught.value) == "data[1].totalBilledPrice: expected a number, got 'much'"
    with pytest.raises(DecodeError) as caught:
        decode_pod({**POD_ROW, "resources": {"memory": "much"}}, "p")
    assert str(caught.value) == "resources.memory: expected a number, got 'much'"


def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    """All others are there, and each error says whose row it is, as far as that can be read."""
    good = [{**STATUS_ROW, "podId": f"p{index}"} for index in range(3)]
    bad = [{**STATUS_ROW, "podId": "b", "ip": 5}, "no row", {"podId": 17, "costPerHr": []}, {"podId": {}}]
    decoded = decode_statuses({"data": [good[0], bad[0], good[1], *bad[1:], good[2]]})
    assert [row.pod_id for row in decoded.rows] == ["p0", "p1", "p2"]
    assert [(error.path, error.row_id) for error in decoded.errors] == [
        ("data[1].ip", "b"),
        ("data[3]", None),
        ("data[4].costPerHr", "17"),
        ("data[5].podId", None),
    ]
    page = decode_pods({"data": [POD_ROW, {**POD_ROW, "id": "b", "gpuCount": None}], "total_count": 2}, 0, 9)
    assert (page.page.total_count, [pod.id for pod in page.page]) == (2, [POD_ROW["id"]])
    assert [(error.path, error.row_id) for error in page.errors] == [("data[1].gpuCount", "b")]
    records = decode_history({"data": [{**RECORD_ROW, "id": "b", "type": None}, RECORD_ROW]}, 0, 9)
    assert [record.id for record in records.page] == [RECORD_ROW["id"]]
    assert [(error.path, error.row_id) for error in records.errors] == [("data[0].type", "b")]


@pytest.mark.parametrize("body", [None, "text", 5, True, [], [POD_ROW]])
@pytest.mark.parametrize(
    "decode",
    [
        statuses,
        lambda body: pods(body, 0, 1),
        lambda body: history(body, 0, 1),
        lambda body: decode_pod(body, "p"),
    ],
)
def test_an_answer_is_an_object(decode: Callable[[Any], Any], body: Any) -> None:
    """A list or text in place of the promised object is an error of the whole answer, whose path is empty."""
    with pytest.raises(DecodeError, match=r"^expected an object, got ") as caught:
        decode(body)
    assert caught.value.path == ""


@pytest.mark.parametrize("rows", [{}, "text", 5, True])
def test_data_is_a_list(rows: Any) -> None:
    """Of a status answer as of a page."""
    decoders: list[Callable[[Any], Any]] = [statuses, lambda body: pods(body, 0, 1)]
    for decode in decoders:
        with pytest.raises(DecodeError, match=r"^data: expected a list, got "):
            decode({"data": rows})


@pytest.mark.parametrize("name", ["total_count", "offset", "limit"])
def test_counts_of_a_page_are_numbers(name: str) -> None:
    """As text, too; negative ones are nought; anything else is named."""
    assert getattr(pods({"data": [], name: "12"}, 0, 1), name) == 12
    assert getattr(pods({"data": [], name: -12}, 0, 1), name) == 0
    assert getattr(pods({"data": [], name: 0}, 5, 5), name) == 0
    values: list[Any] = ["many", {}, True, "9" * 5_000]
    for value in values:
        with pytest.raises(DecodeError, match="expected") as caught:
            pods({"data": [], name: value}, 0, 1)
        assert caught.value.path == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("", "''"),
        ("a\x1bb", r"'a\x1bb'"),
        ("nan", "'nan'"),
        ({"a": 1}, "an object"),
        ([1], "a list"),
        ("x" * 59, "61 characters"),
        ("x" * 58, f"'{'x' * 58}'"),
    ],
)
def test_what_stood_in_place_of_a_number_is_named(value: Any, name: str) -> None:
    """In JSON's words, in full where it is short, and without what moves a cursor."""
    with pytest.raises(DecodeError) as caught:
        pod(priceHr=value)
    assert caught.value.reason.endswith(f", got {name}")


def test_a_long_value_is_shown_in_part() -> None:
    """The message stays readable whatever was sent."""
    with pytest.raises(DecodeError) as caught:
        pod(gpuCount="x" * 10_000)
    assert len(str(caught.value)) < 150
    assert caught.value.value == "x" * 10_000


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "place", [".gpuCount", ".name", ".ip", ".primePortMapping", ".resources", ".createdAt"]
)
def test_nesting_is_a_wrong_shape_and_no_crash(place: str) -> None:
    """As deep as a decoder of JSON lets through."""
    with pytest.raises(DecodeError):
        pods({"data": [broken_at(POD_ROW, place, nested(1_000))]}, 0, 1)
    with pytest.raises(DecodeError, match="unknown fields of at most 40 levels"):
        pod(someNewField=nested(1_000))
    assert pod(someNewField=nested(39)) == pod(someNewField=nested(39))


@given(data=VALUES)
@example(data={"data": [{"id": {}, "gpuName": {}}]})
def test_no_json_breaks_a_decoder(data: Any) -> None:
    """Whatever a server answers, the outcome is a value or a `DecodeError`."""
    decoders: list[Callable[[Any], Any]] = [
        statuses,
        decode_deletion,
        decode_log,
        lambda body: pods(body, 0, 1),
        lambda body: history(body, 0, 1),
        lambda body: decode_pod(body, "p"),
    ]
    for decode in decoders:
        for body in (
            data,
            {"data": data},
            {"data": [data]},
            {"data": [{"podId": data, "ip": data, "priceHr": data}]},
        ):
            try:
                decode(body)
            except DecodeError as exc:
                assert isinstance(exc.path, str)  # noqa: PT017 - either outcome is right


# --- Deletions and logs ---------------------------------------------------------------------------------


def test_a_deletion_answers_a_state() -> None:
    """What the API said, known or not."""
    assert decode_deletion({"status": "TERMINATED"}) is PodState.TERMINATED
    assert decode_deletion({"status": "SHREDDED"}) == "SHREDDED"


@pytest.mark.parametrize(
    "body", [None, {}, {"status": None}, {"status": 5}, {"status": ["TERMINATED"]}, [], "TERMINATED", True]
)
def test_other_answers_to_a_deletion_name_no_state(body: Any) -> None:
    """What cannot be read must not look as if the pod were gone."""
    assert decode_deletion(body) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, ""),
        ("", ""),
        ("a\nb\n", "a\nb\n"),
        ([], ""),
        (["a", "b"], "a\nb"),
        ({"logs": "a\nb"}, "a\nb"),
        ({"logs": ["a", "b"]}, "a\nb"),
        ({"logs": None}, ""),
        ({"log": "a"}, "a"),
        ({"data": {"logs": ["a"]}}, "a"),
        ({"data": [{"message": "a"}, {"line": "b"}, {"content": "c"}, {"output": "d"}]}, "a\nb\nc\nd"),
        ([{"timestamp": 1, "message": "a"}], "a"),
        ({"something": "else"}, '{"something": "else"}'),
        ([5, None, True], "5\n\ntrue"),
    ],
)
def test_a_log_is_text_whatever_it_is_wrapped_in(body: Any, text: str) -> None:
    """The API does not say what the answer is, so every plausible wrapping is opened."""
    assert decode_log(body) == text


@pytest.mark.parametrize("levels", [10, 400, 1_000, 100_000])
def test_a_log_can_be_nested_without_end(levels: int) -> None:
    """However deep, the outcome is text and no `RecursionError`."""
    assert isinstance(decode_log(nested(levels)), str)
    assert isinstance(decode_log({"logs": nested(levels)}), str)
