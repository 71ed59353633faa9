"""Whatever the API's schema allows is decoded, and every field of it arrives where users find it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import (
    AttachedResource,
    HistoryRecord,
    InstallationState,
    Pod,
    PodState,
    PodStatus,
    PortMapping,
    Resources,
)
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page
from tests.fixtures import document
from tests.support.json_values import VALUES

Values = st.SearchStrategy[Any]

WORD: Final = st.text(max_size=12)
COUNT: Final = st.integers(-(2**53), 2**53)
MONEY: Final = st.floats(allow_nan=False, allow_infinity=False) | COUNT
FLAG: Final = st.booleans()
PER_NODE: Final = WORD | st.lists(st.none() | WORD, max_size=3)
ZONES: Final = st.just(UTC) | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
# Not within a day of the first and the last moment of all, which some zones cannot tell.
TIME: Final = st.builds(
    lambda moment, spell: spell(moment.isoformat()),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES),  # noqa: DTZ001 - ZONES
    st.sampled_from(
        [str, str.lower, lambda text: text.replace("+00:00", "Z"), lambda text: text.replace("T", " ")]
    ),
)


@attrs.frozen
class Shape:
    """The fields of an object in the schema: what they may hold, and whether they may be absent or null."""

    required: dict[str, Values]
    optional: dict[str, Values]

    def rows(self) -> Values:
        """Rows with some of the optional fields, and some that nobody knows."""
        unknown = WORD.filter(lambda name: name not in {*self.required, *self.optional, "priceHr"})
        nullable = {name: st.none() | values for name, values in self.optional.items()}
        known = st.fixed_dictionaries(self.required, optional=nullable)
        return st.builds(
            lambda row, extra: {**extra, **row}, known, st.dictionaries(unknown, VALUES, max_size=2)
        )


PORT = Shape(
    dict.fromkeys(["internal", "external"], WORD), dict.fromkeys(["protocol", "usedBy", "description"], WORD)
)
RESOURCES = Shape({}, dict.fromkeys(["memory", "disk", "shared_disk", "vcpus"], COUNT))
ATTACHED = Shape(
    {"id": WORD | COUNT},
    {
        **dict.fromkeys(["resourceType", "status", "mountPath", "resourcePath"], WORD),
        **dict.fromkeys(["isDetachable", "isShared"], FLAG),
        "size": COUNT | WORD,
    },
)
MACHINE: dict[str, Values] = {
    "status": st.sampled_from(PodState).map(str) | WORD,
    "installationStatus": st.sampled_from(InstallationState).map(str) | WORD,
    "installationFailure": WORD,
    "installationProgress": COUNT,
    "primePortMapping": st.lists(PORT.rows(), max_size=2),
    **dict.fromkeys(["sshConnection", "ip"], PER_NODE),
}
POD = Shape(
    {**dict.fromkeys(["id", "gpuName", "providerType"], WORD), "gpuCount": COUNT, "priceHr": MONEY},
    {
        **MACHINE,
        **dict.fromkeys(["name", "userId", "teamId", "walletId", "clusterId", "type", "socket"], WORD),
        **dict.fromkeys(["baseCurrency", "environmentType", "customTemplateId", "jupyterPassword"], WORD),
        **dict.fromkeys(["createdAt", "updatedAt", "terminatedAt"], TIME),
        **dict.fromkeys(["stoppedPriceHr", "provisioningPriceHr", "basePriceHr"], MONEY),
        **dict.fromkeys(["isSpot", "autoRestart"], FLAG),
        "resources": RESOURCES.rows(),
        "attachedResources": st.lists(ATTACHED.rows(), max_size=2),
    },
)
STATUS = Shape({"podId": WORD}, {**MACHINE, "providerType": WORD, "costPerHr": MONEY})
RECORD = Shape(
    {
        **dict.fromkeys(["id", "type", "gpuName", "providerType"], WORD),
        **dict.fromkeys(["priceHr", "totalBilledPrice"], MONEY),
        "gpuCount": COUNT,
        "createdAt": TIME,
    },
    {
        **dict.fromkeys(["name", "userId", "teamId", "provisionedBy", "socket"], WORD),
        "terminatedAt": TIME,
    },
)
SHAPES: dict[Any, Shape] = {
    PortMapping: PORT,
    Resources: RESOURCES,
    AttachedResource: ATTACHED,
    Pod: POD,
    PodStatus: STATUS,
    HistoryRecord: RECORD,
}


def attribute(name: str) -> str:
    """What users call a field of the wire: `priceHr` is `price_hr`."""
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def compare(model: Any, row: dict[str, Any]) -> None:
    """Compare a model with the row it was made from: every field of either side is accounted for."""
    names = {**SHAPES[type(model)].required, **SHAPES[type(model)].optional}
    assert {field.name for field in attrs.fields(type(model))} == {*map(attribute, names), "extra"}
    assert model.extra == {name: value for name, value in row.items() if name not in names}
    for name in names:
        value, sent = getattr(model, attribute(name)), row.get(name)
        if name in {"primePortMapping", "attachedResources"}:
            for inner, inner_row in zip(value, sent or (), strict=True):
                compare(inner, inner_row)
        elif isinstance(sent, dict):
            compare(value, sent)
        else:
            assert value == plain(name, sent)


def plain(name: str, sent: Any) -> Any:
    """What a field without fields of its own must hold for what was sent."""
    if sent is not None and name.endswith("At"):
        return datetime.fromisoformat(sent.upper())
    if name == "size" and isinstance(sent, str):
        return int(sent) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", sent, re.ASCII) else sent
    if name == "id":
        return str(sent)
    return tuple(sent) if isinstance(sent, list) else sent


LISTINGS: dict[str, tuple[Callable[[Any], Any], Shape]] = {
    "pods": (lambda data: decode_page(data, Pod, 7, 9), POD),
    "history": (lambda data: decode_page(data, HistoryRecord, 7, 9), RECORD),
    "statuses": (decode_statuses, STATUS),
}


@pytest.mark.parametrize("listing", LISTINGS)
@given(data=st.data())
def test_whatever_the_schema_allows_is_decoded(listing: str, data: st.DataObject) -> None:
    """Every field arrives at its attribute with its value, what is unknown in `extra`, and nothing else."""
    decode, shape = LISTINGS[listing]
    counts = {name: st.integers(0, 2**40) for name in ("total_count", "offset", "limit")}
    rows = st.none() | st.lists(shape.rows(), max_size=3)
    body = data.draw(st.fixed_dictionaries({"data": rows}, optional={**counts, "status": WORD}))
    before = copy.deepcopy(body)
    models, errors = decode(body)
    assert (body, errors) == (before, [])
    sent: Any = body["data"] or []
    for model, row in zip(models, sent, strict=True):
        compare(model, row)
    if listing != "statuses":
        assert models.total_count == body.get("total_count")
        assert (models.offset, models.limit) == (body.get("offset", 7), body.get("limit", 9))


@pytest.mark.parametrize("name", ["pods_page", "history_page", "status_two_pods", "status_odd_rows"])
def test_the_sample_documents_are_decoded_in_full(name: str) -> None:
    """Each row of each document, field by field."""
    body = document(name)
    listing = {"pods_page": "pods", "history_page": "history"}.get(name, "statuses")
    models, _ = LISTINGS[listing][0](body)
    for model, row in zip(models, body["data"], strict=True):
        if "priceHr" in row and isinstance(model, PodStatus):
            row["costPerHr"] = row.pop("priceHr")
        if row.get("resources"):
            row["resources"] = {key: value and int(value) for key, value in row["resources"].items()}
        compare(model, row)
