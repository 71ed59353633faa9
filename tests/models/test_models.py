"""The models: what each odd document of the API means, as frozen values."""

import ast
import copy
import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import primepods
from primepods import (
    Endpoint,
    HistoryRecord,
    InstallationState,
    Node,
    Page,
    Pod,
    PodChange,
    PodState,
    PodStatus,
)
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page
from tests.fixtures import document, status_rows
from tests.support.json_values import ANY_TEXT


def status(**row: Any) -> PodStatus:
    """A status row of the wire, decoded."""
    return decode_statuses({"data": [{"podId": "p", "providerType": "x", "status": "ACTIVE", **row}]})[0][0]


def odd(pod_id: str) -> PodStatus:
    """A row of the sample documents, decoded."""
    return decode_statuses({"data": [status_rows()[pod_id]]})[0][0]


def pods() -> tuple[Pod, ...]:
    """The pods of the sample page."""
    return decode_page(document("pods_page"), Pod, 0, 10)[0].data


# What each row of the documents means: ready, failed and why, nodes with how to log in to them.
NOWHERE: list[tuple[str | None, str | None]] = [(None, None)]
MEANINGS: dict[str, tuple[bool, str | None, list[tuple[str | None, str | None]]]] = {
    "my_first_pod_id": (True, None, [("135.23.125.123", "ssh -p 22 root@135.23.125.123")]),
    "my_second_pod_id": (False, None, NOWHERE),
    "stopped_multi_node": (False, None, NOWHERE),
    "two_nodes": (
        True,
        None,
        [("10.0.0.1", "ssh -p 22 root@10.0.0.1"), ("10.0.0.2", "ssh -p 2222 ubuntu@10.0.0.2")],
    ),
    "one_node_still_booting": (False, None, [("10.0.0.1", "ssh -p 22 root@10.0.0.1"), (None, None)]),
    "placeholder_host": (False, None, NOWHERE),
    "ssh_prefix": (True, None, [("65.108.32.154", "ssh -p 22 root@65.108.32.154")]),
    "active_without_ssh": (False, None, NOWHERE),
    "install_retrying": (False, None, [("10.0.0.9", "ssh -p 22 root@10.0.0.9")]),
    "install_error": (False, "status ERROR: unsupported image", NOWHERE),
    "from_the_future": (False, None, NOWHERE),
    "many_ports": (True, None, [("10.1.1.1", "ssh -p 10022 root@10.1.1.1")]),
}


@pytest.mark.parametrize("pod_id", status_rows())
def test_every_odd_row_means_something(pod_id: str) -> None:
    """Ready or not, failed or not and why, its machines, and the first that can be logged in to."""
    row = odd(pod_id)
    ready, failure, nodes = MEANINGS[pod_id]
    assert (row.is_ready, row.has_failed, row.failure) == (ready, failure is not None, failure)
    assert [(node.ip, node.ssh and str(node.ssh)) for node in row.nodes] == nodes
    assert (row.ssh and str(row.ssh)) == nodes[0][1]


def test_a_pod_that_is_being_made_is_no_failure_and_not_ready() -> None:
    """The second pod of the sample page: nulls where nothing is known yet, and fields beside the schema."""
    pod = pods()[1]
    assert (pod.is_ready, pod.has_failed, pod.failure, pod.ssh) == (False, False, None, None)
    assert pod.nodes == (Node(ip=None, ssh=None),)
    assert (pod.prime_port_mapping, pod.attached_resources, pod.resources) == ((), (), None)
    assert (pod.base_price_hr, pod.base_currency) == (0.35, "USD")
    assert pod.extra == {"finalizerStatus": "SUCCESS"}
    assert pod.jupyter_password == "secret-in-response"


def test_secrets_of_a_pod_are_not_in_its_repr() -> None:
    """The password that the API sends is an attribute, and nowhere in a log line."""
    pod = pods()[1]
    for shown in (
        repr(pod),
        str(pod),
        f"{pod}",
        repr((pod,)),
        repr(Page(total_count=1, offset=0, limit=1, data=(pod,))),
    ):
        assert "secret-in-response" not in shown
    assert repr(pod).startswith(f"Pod(id={pod.id!r}, ")
    assert repr(odd("two_nodes")).startswith("PodStatus(pod_id='two_nodes', ")


def test_unknown_fields_are_kept_and_compared_but_not_shown() -> None:
    """`extra` holds what this version does not know; a change in it is a change of the value."""
    row = odd("from_the_future")
    assert row.extra == {"someNewField": {"x": 1}}
    assert "someNewField" not in repr(row)
    assert row != attrs.evolve(row, extra={})
    assert hash(row) == hash(attrs.evolve(row, extra={}))


@pytest.mark.parametrize(
    ("row", "ready"),
    [
        ({"ip": "1.2.3.4"}, True),
        ({"sshConnection": "root@1.2.3.4 -p 22"}, True),
        ({"ip": "1.2.3.4", "installationStatus": "FINISHED"}, True),
        ({"ip": "1.2.3.4", "installationStatus": "FINISHED", "installationProgress": 40}, True),
        ({"ip": "1.2.3.4", "installationStatus": "ACTIVE", "installationProgress": 100}, True),
        ({"ip": "1.2.3.4", "installationProgress": 100, "installationFailure": "earlier"}, True),
        ({"ip": "1.2.3.4", "installationProgress": 99}, False),
        ({"ip": "1.2.3.4", "installationProgress": 0}, False),
        ({"ip": "1.2.3.4", "installationStatus": "ACTIVE"}, False),
        ({"ip": "1.2.3.4", "installationStatus": "PENDING"}, False),
        ({"ip": "1.2.3.4", "installationStatus": "VERIFYING"}, False),
        ({"ip": "1.2.3.4", "installationFailure": "image pull failed"}, False),
        ({"ip": "1.2.3.4", "installationStatus": "ERROR", "installationProgress": 100}, False),
        ({"ip": "1.2.3.4", "installationStatus": "TERMINATED", "installationProgress": 100}, False),
        ({"ip": "1.2.3.4", "status": "PENDING"}, False),
        ({"ip": "1.2.3.4", "status": "HIBERNATING"}, False),
        ({"ip": "1.2.3.4", "status": None}, False),
        ({"ip": "1.2.3.4", "status": "STOPPED"}, False),
        ({"ip": ""}, False),
        ({"ip": [], "sshConnection": []}, False),
        ({"ip": ["1.2.3.4", None], "sshConnection": [None, "root@1.2.3.5"]}, True),
        ({"ip": ["1.2.3.4"], "sshConnection": ["root@1.2.3.4", None]}, False),
        ({"ip": ["1.2.3.4", "1.2.3.5"], "sshConnection": None}, True),
        ({"sshConnection": "ubuntu@"}, False),
    ],
)
def test_ready_is_active_installed_and_addressed(row: dict[str, Any], ready: bool) -> None:
    """All three, for every node; a finished installation says so, is at 100, or reports nothing."""
    assert status(**row).is_ready is ready


@pytest.mark.parametrize(
    ("row", "failure"),
    [
        ({"status": "ERROR"}, "status ERROR"),
        ({"status": "STOPPED"}, None),
        ({"status": "DELETING"}, None),
        ({"status": "TERMINATED"}, None),
        ({"status": "STOPPED", "installationStatus": "ERROR", "installationFailure": "disk full"}, None),
        ({"installationStatus": "ERROR"}, "installation ERROR"),
        (
            {"installationStatus": "ERROR", "installationFailure": "disk full"},
            "installation ERROR: disk full",
        ),
        ({"status": "ERROR", "installationFailure": "a\r\n\tb\x1b[2J c "}, "status ERROR: a b [2J c"),
        ({"status": "ERROR", "installationFailure": " \n"}, "status ERROR"),
        ({"installationFailure": "pull failed, retrying"}, None),
        ({"status": "UNKNOWN"}, None),
        ({"status": "FAILED"}, None),
        ({"status": None}, None),
        ({"installationStatus": "TERMINATED"}, None),
    ],
)
def test_failure_is_one_line_and_only_what_lasts(row: dict[str, Any], failure: str | None) -> None:
    """ERROR, and an installation in ERROR; not a retry in progress, nor a pod that was stopped or deleted."""
    assert status(**row).failure == failure
    assert status(**row).has_failed is (failure is not None)


@pytest.mark.parametrize("state", [None, *PodState, PodState("HIBERNATING")])
def test_a_pod_says_whether_it_has_ended(state: PodState | None) -> None:
    """Being deleted, gone or stopped; a state that is not known is none of these."""
    is_ending = state in {"DELETING", "TERMINATED"}
    assert (state is not None and state.is_ending) is is_ending
    assert PodStatus(pod_id="p", status=state).has_ended is (is_ending or state == "STOPPED")


@given(
    st.sampled_from([None, *PodState, PodState("HIBERNATING")]), st.text() | st.none(), st.text() | st.none()
)
def test_no_pod_is_both_ready_and_failed(
    state: PodState | None, installation: str | None, reason: str | None
) -> None:
    """Whatever a row says, it is at most one of the two, and a failure always has a printable reason."""
    row = PodStatus(
        pod_id="p",
        status=state,
        installation_status=None if installation is None else InstallationState(installation),
        installation_failure=reason,
        ip="1.2.3.4",
    )
    assert not (row.is_ready and row.has_failed)
    assert (row.failure is not None) is row.has_failed
    assert row.failure is None or row.failure.isprintable()


def test_ports_are_found_by_the_port_in_the_pod() -> None:
    """The row with many ports: a number, a whole URL, and `*` for every port that is not listed."""
    row = odd("many_ports")
    assert row.endpoint(22) == Endpoint(host="10.1.1.1", port=10022, url="http://10.1.1.1:10022")
    assert row.endpoint(8888) == Endpoint(
        host="abc-8888.proxy.example.com", port=443, url="https://abc-8888.proxy.example.com"
    )
    assert row.endpoint(8000) == Endpoint(host="10.1.1.1", port=18000, url="http://10.1.1.1:18000")
    assert row.endpoint(9999) == Endpoint(host="10.1.1.1", port=9999, url="http://10.1.1.1:9999")
    assert row.jupyter_url == "https://abc-8888.proxy.example.com"


def mapped(external: str, internal: str = "8000", **fields: Any) -> PodStatus:
    """A row with one port."""
    port = {"internal": internal, "external": external, "protocol": "TCP", **fields}
    return status(ip="1.2.3.4", primePortMapping=[port])


@pytest.mark.parametrize(
    ("external", "url"),
    [
        ("18000", "http://1.2.3.4:18000"),
        ("*", "http://1.2.3.4:8000"),
        ("http://h:81/path?token=a", "http://h:81/path?token=a"),
        ("HTTPS://H", "HTTPS://H"),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("1", "http://1.2.3.4:1"),
        ("65535", "http://1.2.3.4:65535"),
        ("", None),
        ("0", None),
        ("65536", None),
        ("-1", None),
        ("18000 ", None),
        ("٨٠", None),
        ("n/a", None),
        ("https://", None),
        ("https://h:x", None),
        ("https://h:99999", None),
        ("https://[::1", None),
        ("https://h/\x1b[2J", None),
        ("https://h /", None),
        ("javascript://h/%0aalert(1)", None),
        ("https://h:0", None),
        ("ssh://h", None),
        ("ssh://h:22", None),
    ],
)
def test_only_what_can_be_reached_is_an_endpoint(external: str, url: str | None) -> None:
    """A port number, `*` or a web address; from anything else nothing is made up."""
    endpoint = mapped(external).endpoint(8000)
    assert (endpoint and endpoint.url) == url
    assert mapped(external).jupyter_url is None
    assert mapped(external, usedBy="JUPYTER_NOTEBOOK").jupyter_url == url


def test_endpoints_need_an_address() -> None:
    """The first node with an address is it, by ip or by ssh; a mapping alone is none."""
    port = [{"internal": "*", "external": "*"}]
    assert status(primePortMapping=port).endpoint(80) is None
    assert status(ip="").nodes[0].ip is None
    by_ssh = status(sshConnection=[None, "root@h -p 22"], primePortMapping=port).endpoint(80)
    assert by_ssh == Endpoint(host="h", port=80, url="http://h:80")
    v6 = status(ip="2001:db8::1", primePortMapping=port).endpoint(80)
    assert v6 == Endpoint(host="2001:db8::1", port=80, url="http://[2001:db8::1]:80")
    assert status(ip="1.2.3.4").endpoint(80) is None
    assert status(ip="1.2.3.4").jupyter_url is None


def test_an_exact_port_comes_before_the_wildcard_and_a_broken_one_after_it() -> None:
    """The most exact mapping that leads anywhere is the answer."""
    ports = [
        {"internal": "*", "external": "*"},
        {"internal": "8000", "external": "nowhere"},
        {"internal": "9000", "external": "19000"},
    ]
    row = status(ip="1.2.3.4", primePortMapping=ports)
    found = [row.endpoint(port) for port in (9000, 8000)]
    assert [endpoint and endpoint.port for endpoint in found] == [19000, 8000]


def test_jupyter_is_found_by_its_use_or_by_its_usual_port() -> None:
    """What says that it is Jupyter comes first; a wild internal port does not tell which port it is."""
    assert mapped("18888", "8888").jupyter_url == "http://1.2.3.4:18888"
    assert mapped("*", "8888").jupyter_url == "http://1.2.3.4:8888"
    assert mapped("*", "*", usedBy="JUPYTER_NOTEBOOK").jupyter_url is None
    ports = [
        {"internal": "8888", "external": "1"},
        {"internal": "9", "external": "x", "usedBy": "JUPYTER_NOTEBOOK"},
        {"internal": "9", "external": "2", "usedBy": "JUPYTER_NOTEBOOK"},
    ]
    assert status(ip="1.2.3.4", primePortMapping=ports).jupyter_url == "http://1.2.3.4:2"


@given(st.text(), st.text(), st.sampled_from(["JUPYTER_NOTEBOOK", None]))
@example("9" * 5_000, "*", "JUPYTER_NOTEBOOK")
@example("70000", "*", "JUPYTER_NOTEBOOK")
def test_no_mapping_breaks_what_is_told_of_a_pod(internal: str, external: str, used_by: str | None) -> None:
    """Whatever stands in a mapping, there is no exception, and a port is always one."""
    row = mapped(external, internal, usedBy=used_by)
    url = row.jupyter_url
    assert url is None or url.isprintable()
    if internal.isascii() and internal.isdecimal() and 0 < int(internal[:6]) <= 65_535:
        endpoint = row.endpoint(int(internal[:6]))
        assert endpoint is None or 1 <= endpoint.port <= 65_535


def test_an_endpoint_is_asked_for_by_a_port_number() -> None:
    """What is no port, and what is no integer, is refused, even where a wild mapping would take it."""
    for number in (0, -1, 65_536):
        with pytest.raises(ValueError, match="internal_port must be from 1 to 65535"):
            status().endpoint(number)
    others: list[Any] = ["8000", 8000.0, True, None]
    for port in others:
        with pytest.raises(TypeError, match="internal_port must be an integer"):
            mapped("*", "*").endpoint(port)


@pytest.mark.parametrize("kind", [PodState, InstallationState])
@given(word=ANY_TEXT)
@example(word="__class__")
@example(word="name")
def test_the_vocabulary_is_open(kind: type[PodState | InstallationState], word: str) -> None:
    """A word added later equals its string, is not known, and behaves as a member in all else."""
    assert all(member.is_known and kind(str(member)) is member for member in kind)
    if word in kind.__members__:
        return
    members = len(kind)
    value = kind(word)
    assert isinstance(value, kind)
    assert value == word
    assert value == kind(word)
    assert hash(value) == hash(word)
    assert (str(value), f"{value}", value.value, value.name) == (word, word, word, word)
    assert not value.is_known
    assert repr(value).isprintable()
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert (type(other), other, other.is_known) == (kind, word, False)
    assert json.loads(json.dumps({"status": value})) == {"status": word}
    assert len(kind) == members
    assert word not in kind.__members__
    assert value != f"{word}x"


def test_a_state_is_a_word() -> None:
    """Numbers, nulls and lists are no states."""
    values: list[Any] = [None, 1, ["ACTIVE"], b"ACTIVE"]
    for value in values:
        with pytest.raises(ValueError, match="not a valid PodState"):
            PodState(value)


def everything() -> list[Any]:
    """One value of each model."""
    rows = [odd(pod_id) for pod_id in status_rows()]
    many = odd("many_ports")
    page = decode_page(document("pods_page"), Pod, 0, 10)[0]
    return [
        *rows,
        many.prime_port_mapping[0],
        *page,
        page,
        *decode_page(document("history_page"), HistoryRecord, 0, 10)[0],
        pods()[0].resources,
        *pods()[0].attached_resources,
        rows[0].nodes[0],
        many.endpoint(22),
        PodChange(pod_id="p", before=None, after=rows[0]),
    ]


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_models_are_values(make: Any) -> None:
    """Equal by value, hashable, and the same after a copy or a way through pickle."""
    for value, same in zip(everything(), everything(), strict=True):
        other = make(value)
        assert type(other) is type(value)
        assert other == value == same
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)


def test_models_do_not_change() -> None:
    """No field can be set, none added, none given by its place, and the `extra` that all share not filled."""
    for value in everything():
        name = attrs.fields(type(value))[0].name
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)
        assert not hasattr(value, "__dict__")
        assert all(field.kw_only for field in attrs.fields(type(value)))
    assert status().extra is mapped("1").prime_port_mapping[0].extra
    shared: Any = status().extra
    for method in ("update", "setdefault", "__ior__"):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(shared, method)({"a": 1})
    with pytest.raises(TypeError, match="cannot be changed"):
        shared["a"] = 1
    assert copy.deepcopy(shared) is shared == {}


def test_a_row_with_a_million_addresses_is_read_quickly() -> None:
    """A pod has at most a thousand nodes, and an ssh string is parsed once, however often it comes."""
    row = status(ip=["1.2.3.4"] * 1_000_000, sshConnection=["root@1.2.3.4 -p 22"] * 1_000_000)
    assert row.is_ready
    assert len(row.nodes) == 1_000
    assert len({id(node.ssh) for node in row.nodes}) == 1


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("models/_base", ["Model"]),
        ("models/_readiness", ["PortMapping", "Node", "Endpoint", "Machine"]),
        ("models/_pods", ["Resources", "AttachedResource", "Pod", "PodStatus", "HistoryRecord", "PodChange"]),
        ("models/_page", ["Page"]),
        ("models/offers", ["SpecRange", "Prices", "Offer", "GpuPrices", "DiskOffer"]),
        ("models/keys", ["SSHKey"]),
        ("client", ["AsyncClient"]),
        ("sync/_client", ["Client"]),
    ],
)
def test_every_field_has_a_hover_text(module: str, names: list[str]) -> None:
    """A docstring below it, which editors show: for each field of a model, and for `client.pods`."""
    tree = ast.parse((Path(primepods.__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name in names:
        for field, below in pairwise([*found[name].body, None]):
            # A `Final` is a blocking method, which shows the docstring of the asynchronous one.
            if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) != "Final":
                assert isinstance(below, ast.Expr), (name, ast.unparse(field.target))
