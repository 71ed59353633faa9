"""Models as JSON, as a line of text, and as a table: what people, scripts and notebooks get out of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

import primepods
from primepods import Page, Pod, PodChange, PodSpec, PodStatus
from primepods._decoding.rows import decode_history, decode_pods, decode_statuses
from primepods.emulator import Emulator
from tests.fixtures import document, status_rows


def pods() -> Page[Pod]:
    """The sample page."""
    return decode_pods(document("pods_page"), 0, 10).page


def statuses() -> tuple[PodStatus, ...]:
    """Every odd row of the documents."""
    return decode_statuses({"data": list(status_rows().values())}).rows


def test_every_model_has_to_dict() -> None:
    """What calls return, and the parts of that; settings apart."""
    public = [getattr(primepods, name) for name in primepods.__all__]
    models = {kind for kind in public if isinstance(kind, type) and attrs.has(kind)}
    without = {kind.__name__ for kind in models if not hasattr(kind, "to_dict")}
    assert without == {"RetryPolicy"}


def test_every_model_becomes_json() -> None:
    """`json.dumps` writes each, with the fields' own names, and strictly: no NaN, no tuples, no enums."""
    page = pods()
    history = decode_history(document("history_page"), 0, 10).page
    change = PodChange(pod_id="p", before=None, after=statuses()[0])
    with Emulator(pods=1) as emu, primepods.Client(api_key=emu.api_key, base_url=emu.url) as client:
        offers = [*client.availability.gpus(), *client.availability.disks()]
    for value in [*page, *statuses(), *history, *offers, page, history, change]:
        data = value.to_dict()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        fields = [field.name for field in attrs.fields(type(value)) if field.repr is True]
        assert list(data)[: len(fields)] == fields
        assert "extra" not in data


def test_a_pod_as_a_dict() -> None:
    """Nested models are dicts, words are strings, times are ISO 8601; what is derived comes last."""
    data = pods().data[0].to_dict()
    assert type(data["status"]) is str
    assert datetime.fromisoformat(data["created_at"]).tzinfo == UTC
    assert list(data)[-3:] == ["is_ready", "failure", "ssh"]
    two = next(row for row in statuses() if row.pod_id == "two_nodes").to_dict()
    assert two["ssh"] == {
        "user": "root",
        "host": "10.0.0.1",
        "port": 22,
        "command": "ssh -p 22 root@10.0.0.1",
    }
    assert two["ip"] == ["10.0.0.1", "10.0.0.2"]
    failed = next(row for row in statuses() if row.pod_id == "install_error").to_dict()
    assert (failed["is_ready"], failed["ssh"]) == (False, None)
    assert failed["failure"].endswith(": unsupported image")


def test_no_secret_is_in_a_dict() -> None:
    """Neither the password that the API sends, nor what it adds unasked, nor what a spec is to set."""
    [pod] = [pod for pod in pods() if pod.jupyter_password]
    text = json.dumps(attrs.evolve(pod, extra={"token": "from-the-future"}).to_dict())
    assert "secret-in-response" not in text
    assert "from-the-future" not in text
    spec = PodSpec(
        cloud_id="c",
        gpu_type="H100_80GB",
        socket="SXM5",
        gpu_count=8,
        provider="p",
        env_vars={"TOKEN": "hidden-1"},
        jupyter_password="hidden-2",
    )
    assert spec.to_dict() | {"gpu_count": 8} == spec.to_dict()
    assert "hidden" not in json.dumps(spec.to_dict())


@pytest.mark.parametrize("price", [float("inf"), float("nan")])
def test_numbers_that_json_lacks_are_null(price: float) -> None:
    """A browser, and FastAPI, would refuse the whole answer."""
    assert attrs.evolve(statuses()[0], cost_per_hr=price).to_dict()["cost_per_hr"] is None


def test_offers_tell_what_is_derived() -> None:
    """Price and availability are what offers are compared by."""
    offer: Any = primepods.Offer(
        cloud_id="c",
        gpu_type="H100_80GB",
        socket="SXM5",
        provider="p",
        gpu_count=1,
        prices=primepods.Prices(on_demand=1.5),
        stock_status="Unavailable",
    )
    data = offer.to_dict()
    assert (data["price_hr"], data["is_available"], data["prices"]["on_demand"]) == (1.5, False, 1.5)
    disk = primepods.DiskOffer(provider="p").to_dict()
    assert (disk["is_available"], disk["spec"]["min_count"]) == (True, None)
