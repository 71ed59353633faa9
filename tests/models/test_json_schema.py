"""Models in the schemas of pydantic and FastAPI: the keys and types that `to_dict` has."""

import json
from typing import Any

import pytest

import primepods
from primepods import GpuPrices, HistoryRecord, Offer, Page, Pod, PodChange, PodStatus, Prices
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_object, decode_page
from primepods._utils.plain import ToDict
from tests.fixtures import document, status_rows

pydantic = pytest.importorskip("pydantic")

PODS = decode_page(document("pods_page"), Pod, 0, 10)[0]
STATUSES = decode_statuses({"data": list(status_rows().values())})[0]
OFFER = decode_object(document("offer")["items"][0], Offer)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Page[Pod], PODS),
        (list[PodStatus], STATUSES),
        (Page[HistoryRecord], decode_page(document("history_page"), HistoryRecord, 0, 10)[0]),
        (Offer | None, OFFER),
        (PodChange, PodChange(pod_id="a", before=None, after=STATUSES[0])),
        (GpuPrices, GpuPrices(gpu_type="T4_16GB", gpu_count=1)),
    ],
)
def test_a_model_has_the_schema_of_its_dict(annotation: Any, value: Any) -> None:
    """A value goes out as `to_dict` has it, and the schema names each of its keys."""
    adapter = pydantic.TypeAdapter(annotation)
    sent = adapter.dump_python(adapter.validate_python(value), mode="json")
    plain = [item.to_dict() for item in value] if isinstance(value, list) else value.to_dict()
    assert sent == json.loads(json.dumps(plain))
    schema = adapter.json_schema(mode="serialization")
    described = schema.get("items") or schema.get("anyOf", [schema])[0]
    assert described["properties"].keys() == (plain[0] if isinstance(plain, list) else plain).keys()


def test_a_schema_has_the_types_of_json() -> None:
    """States and times are text, what may be absent may be null, a page has the schema of its items."""
    schema = pydantic.TypeAdapter(Page[Pod]).json_schema(mode="serialization")
    pod = schema["properties"]["data"]["items"]["properties"]
    assert pod["status"]["anyOf"] == pod["created_at"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert pod["is_ready"]["type"] == "boolean"
    assert pod["ssh"]["anyOf"][0]["properties"]["command"]["type"] == "string"
    assert "extra" not in pod
    assert "jupyter_password" not in pod
    price = pydantic.TypeAdapter(Prices).json_schema(mode="serialization")["properties"]["on_demand"]
    assert price["anyOf"] == [{"type": "number"}, {"type": "null"}]


def test_every_model_has_a_schema() -> None:
    """Whatever has a `to_dict` by its fields."""
    for name in vars(primepods)["__all__"]:
        kind = getattr(primepods, name)
        if isinstance(kind, type) and issubclass(kind, ToDict):
            assert pydantic.TypeAdapter(kind).json_schema(mode="serialization")["properties"]
