"""Every field that the API's schema has arrives where users find it."""

import copy
import re
from datetime import datetime
from typing import Any

import attrs
import pytest

from primepods import (
    AttachedResource,
    Disk,
    HistoryRecord,
    Pod,
    PodStatus,
    PortMapping,
    Resources,
    Team,
    TeamMember,
)
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page

FIELDS: dict[Any, str] = {
    PortMapping: "internal external protocol usedBy description",
    Resources: "memory disk shared_disk vcpus",
    AttachedResource: "id resourceType status mountPath resourcePath isDetachable isShared size",
    PodStatus: "podId status installationStatus installationFailure installationProgress primePortMapping "
    "sshConnection ip providerType costPerHr",
    Pod: "id status installationStatus installationFailure installationProgress primePortMapping "
    "sshConnection ip gpuName providerType gpuCount priceHr name userId teamId walletId clusterId type "
    "socket baseCurrency environmentType customTemplateId jupyterPassword createdAt updatedAt terminatedAt "
    "stoppedPriceHr provisioningPriceHr basePriceHr isSpot autoRestart resources attachedResources",
    Disk: "id name status size providerType priceHr stoppedPriceHr provisioningPriceHr info pods clusters "
    "createdAt updatedAt terminatedAt userId teamId walletId",
    Team: "teamId name slug role createdAt",
    TeamMember: "userId userName userEmail role joinedAt",
    HistoryRecord: "id type gpuName providerType priceHr totalBilledPrice gpuCount createdAt name userId "
    "teamId provisionedBy socket terminatedAt",
}
"""The names of the schema, of each model."""
NUMBERS = {
    "memory",
    "disk",
    "shared_disk",
    "vcpus",
    "size",
    "installationProgress",
    "gpuCount",
    "costPerHr",
    "totalBilledPrice",
}
PARTS = {"primePortMapping": PortMapping, "attachedResources": AttachedResource}


def value(name: str, number: int) -> Any:
    """What a field may hold; no two alike, where its type permits."""
    if name in PARTS:
        return [full_row(PARTS[name], number + part) for part in (100, 200)]
    if name.endswith("At"):
        return f"2026-01-02T03:04:{number % 60:02}Z"
    if name in NUMBERS or name.lower().endswith("pricehr"):
        return number
    if name.startswith("is") or name == "autoRestart":
        return bool(number % 2)
    if name == "resources":
        return full_row(Resources, number + 300)
    if name in {"pods", "clusters"}:
        return [f"text {number}"]
    if name == "info":
        return {"of": number}
    return [f"text {number}", None] if name in {"ip", "sshConnection"} else f"text {number}"


def full_row(model: Any, number: int = 0) -> dict[str, Any]:
    """A row with all fields of the schema, and one that nobody knows."""
    row = {name: value(name, number + at) for at, name in enumerate(FIELDS[model].split())}
    return {**row, "aNewField": {"of": number}}


def attribute(name: str) -> str:
    """What users call a field of the wire: `priceHr` is `price_hr`."""
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def compare(model: Any, row: dict[str, Any]) -> None:
    """Compare a model with the row it was made from: every field of either side is accounted for."""
    names = FIELDS[type(model)].split()
    assert {field.name for field in attrs.fields(type(model))} == {*map(attribute, names), "extra"}
    assert model.extra == {name: sent for name, sent in row.items() if name not in names}
    for name in names:
        found, sent = getattr(model, attribute(name)), row.get(name)
        if isinstance(sent, dict) and name != "info":
            compare(found, sent)
        elif name in PARTS:
            for part, part_row in zip(found, sent or (), strict=True):
                compare(part, part_row)
        elif sent is not None and name.endswith("At"):
            assert found == datetime.fromisoformat(sent)
        elif sent is None and name in {"pods", "clusters"}:
            assert found == ()
        else:
            assert found == (tuple(sent) if isinstance(sent, list) else sent)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("model", [Pod, PodStatus, HistoryRecord, Disk, Team, TeamMember])
def test_every_field_of_the_schema_is_decoded(model: Any, absent: bool) -> None:
    """It arrives at its attribute with its value or as None, what is unknown in `extra`, and nothing else."""
    row = full_row(model)
    if absent:
        needed = {field.name for field in attrs.fields(model) if field.default is attrs.NOTHING}
        row = {name: sent for name, sent in row.items() if attribute(name) in needed}
    body = {"data": [row], "total_count": 2}
    before = copy.deepcopy(body)
    models, errors = decode_statuses(body) if model is PodStatus else decode_page(body, model, 0, 1)
    assert (body, errors) == (before, [])
    [found] = models
    compare(found, row)
