"""Models as JSON, as a line of text, and as a table: what people, scripts and notebooks get out of them."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import primepods
from primepods import (
    Deletions,
    HistoryRecord,
    Page,
    Pod,
    PodChange,
    PodSpec,
    PodState,
    PodStatus,
    PodStatuses,
    PrimePodsError,
)
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page
from primepods.emulator import Emulator
from tests.fixtures import document, status_rows
from tests.support.json_values import ANY_TEXT


def pods() -> Page[Pod]:
    """The sample page."""
    return decode_page(document("pods_page"), Pod, 0, 10)[0]


def statuses() -> tuple[PodStatus, ...]:
    """Every odd row of the documents."""
    return tuple(decode_statuses({"data": list(status_rows().values())})[0])


def test_every_model_has_to_dict() -> None:
    """What calls return, and the parts of that; settings apart, and results that hold what users made."""
    public = [getattr(primepods, name) for name in vars(primepods)["__all__"]]
    models = {kind for kind in public if isinstance(kind, type) and attrs.has(kind)}
    without = {kind.__name__ for kind in models if not hasattr(kind, "to_dict")}
    assert without == {"PoolResult", "RetryPolicy", "Watchdog"}


def test_every_model_becomes_json() -> None:
    """`json.dumps` writes each, with the fields' own names, and strictly: no NaN, no tuples, no enums."""
    page = pods()
    history = decode_page(document("history_page"), HistoryRecord, 0, 10)[0]
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


def pod(**fields: Any) -> Pod:
    """A pod that is ready."""
    ready = {"status": PodState.ACTIVE, "ip": "1.2.3.4", "ssh_connection": "root@1.2.3.4 -p 22"}
    known = {"id": "a" * 32, "name": "training", "gpu_name": "H100_80GB", "gpu_count": 8}
    return Pod(**{**ready, **known, "price_hr": 16.0, "provider_type": "p", **fields})


def test_a_pod_is_printed_as_one_line() -> None:
    """What a person wants to know: which, how it is, what it has, what it costs, how to get in."""
    assert str(pod(id="a")) == (
        "a: ACTIVE, ready · training · 8 x H100_80GB · $16.00 an hour · ssh -p 22 root@1.2.3.4"
    )
    installing: dict[str, Any] = {
        "installation_status": primepods.InstallationState.PENDING,
        "installation_progress": 40,
    }
    assert str(pod(id="a", **installing)).startswith("a: ACTIVE, installing 40 % · ")
    installing["installation_progress"] = None
    assert str(pod(id="a", **installing)).startswith("a: ACTIVE, installing · ")
    assert str(pod(id="a", ip=None, ssh_connection=None)).startswith("a: ACTIVE, no address yet · ")
    bare = PodStatus(pod_id="b", cost_per_hr=2.5)
    assert str(bare) == "b: no status · $2.50 an hour"
    assert str(attrs.evolve(bare, status=PodState.PENDING, cost_per_hr=None)) == "b: PENDING"
    failed = attrs.evolve(bare, status=PodState.ERROR, installation_failure="no\nimage")
    assert str(failed) == "b: status ERROR: no image · $2.50 an hour"
    assert str(PodChange(pod_id="b", before=None, after=failed)) == str(failed)
    assert str(PodChange(pod_id="b", before=failed, after=None)) == "b is gone"
    assert str(PodChange(pod_id="b", before=None, after=None)) == "b is gone or was never found"


def test_the_repr_of_a_pod_is_short() -> None:
    """Id, name, state, GPUs and price of an ordinary pod, in full."""
    assert repr(pod()) == (
        f"Pod(id='{'a' * 32}', name='training', status='ACTIVE', gpu_count=8, gpu_name='H100_80GB', "
        "price_hr=16.0, is_ready=True)"
    )
    assert repr(PodStatus(pod_id="b")) == "PodStatus(pod_id='b', is_ready=False)"


@given(ANY_TEXT, ANY_TEXT, st.integers() | st.just(10**5_000))
def test_lines_are_short_and_printable_whatever_is_sent(text: str, other: str, count: int) -> None:
    """No control code, no second line, under 200 characters of `repr`; also with the longest texts."""
    for long in (1, 500):
        texts: dict[str, Any] = {"installation_failure": text * long, "status": PodState(other * long)}
        one = pod(**texts, id=text * long, name=other * long, gpu_name=text * long, jupyter_password="hidden")
        row = PodStatus(pod_id=text * long, cost_per_hr=1e300, installation_progress=count, **texts)
        for value in (attrs.evolve(one, gpu_count=count), attrs.evolve(row, status=PodState.ERROR), row):
            assert repr(value).isprintable()
            assert len(repr(value)) < 200
            assert "hidden" not in repr(value)
        assert str(one).isprintable()
        assert str(row).isprintable()


def cells(table: str) -> list[list[str]]:
    """The texts of a table's rows, the head first."""
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


def html(value: Any) -> str:
    """What a notebook shows."""
    shown: str = value._repr_html_()
    return shown


def test_a_notebook_shows_tables() -> None:
    """A pod, a page, statuses, deletions: a head, and a row for each; what may be billed comes first."""
    assert cells(html(pod()))[1][1:4] == ["training", "ACTIVE", "8"]
    page = Page(total_count=7, offset=0, limit=2, data=(pod(id="a"), pod(id="b")))
    head, *rows = cells(html(page))
    assert head == ["id", "name", "status", "gpu_count", "gpu_name", "price_hr", "is_ready", "ssh"]
    assert [row[0] for row in rows] == ["a", "b"]
    assert rows[0][-1] == "ssh -p 22 root@1.2.3.4"
    assert "2 of 7" in html(page)
    assert cells(html(Page(total_count=None, offset=0, limit=2, data=()))) == [[]]
    assert len(cells(html(decode_page(document("history_page"), HistoryRecord, 0, 10)[0]))) == 3
    statuses = PodStatuses({"a": PodStatus(pod_id="a")}, missing=("b",), errors={"c": PrimePodsError("cut")})
    assert [row[:2] for row in cells(html(statuses))[1:]] == [["a", ""], ["b", "no row"], ["c", "error: cut"]]
    deletions = Deletions({"a": PodState.DELETING}, errors={"b": PrimePodsError("cut")})
    assert cells(html(deletions))[1:] == [["b", "may still be billed", "cut"], ["a", "DELETING", ""]]


def test_a_long_table_shows_fifty_rows_and_counts_the_others() -> None:
    """A notebook stays usable after a call about a thousand pods."""
    statuses = PodStatuses({f"pod-{number}": PodStatus(pod_id=f"pod-{number}") for number in range(1_060)})
    assert len(re.findall("<tr>", html(statuses))) == 1 + 50 + 1
    assert "… and 1,010 more<" in html(statuses)


MARKUP = "<script>alert(1)</script><img src=x onerror='x'>&\"\x1b[2J"


def test_no_text_becomes_markup() -> None:
    """Names, states, failures, ids and messages are text in a table, whoever wrote them."""
    one = pod(id=MARKUP, name=MARKUP, status=PodState(MARKUP), gpu_name=MARKUP, ip=MARKUP)
    row = PodStatus(pod_id=MARKUP, status=PodState.ERROR, installation_failure=MARKUP)
    error = PrimePodsError(MARKUP)
    values: list[Any] = [
        one,
        row,
        Page(total_count=1, offset=0, limit=1, data=(one,)),
        PodStatuses({MARKUP: row}, missing=(MARKUP,), errors={MARKUP: error}),
        Deletions({MARKUP: PodState(MARKUP)}, errors={MARKUP: error}),
    ]
    for value in values:
        table = html(value)
        assert set(re.findall(r"</?(\w+)", table)) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert "&lt;script&gt;" in table
        assert table.isprintable()


def test_a_page_is_a_sequence() -> None:
    """An item by its place, several as a tuple; an empty one is false, as a list would be."""
    page = Page(total_count=3, offset=0, limit=3, data=("a", "b", "c"))
    assert (page[0], page[-1], page[1:], list(page), len(page)) == ("a", "c", ("b", "c"), ["a", "b", "c"], 3)
    with pytest.raises(IndexError):
        page[3]
    assert not Page[Pod](total_count=None, offset=0, limit=1, data=())


def test_results_become_json() -> None:
    """Statuses and deletions with what is not in them, and the price of a fleet as far as it is known."""
    rows = {
        name: PodStatus(pod_id=name, cost_per_hr=price)
        for name, price in {"a": 0.1, "b": None, "c": 0.2}.items()
    }
    statuses = PodStatuses(rows, missing=("d",), errors={"e": PrimePodsError("cut")})
    assert statuses.cost_per_hr == pytest.approx(0.3)
    assert PodStatuses({}).cost_per_hr == 0
    data = statuses.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert (list(data["statuses"]), data["missing"], data["errors"]) == (["a", "b", "c"], ["d"], {"e": "cut"})
    assert data["cost_per_hr"] == statuses.cost_per_hr
    deletions = Deletions({"a": PodState.DELETING}, errors={"b": PrimePodsError("cut")})
    assert json.loads(json.dumps(deletions.to_dict())) == {
        "states": {"a": "DELETING"},
        "errors": {"b": "cut"},
    }
