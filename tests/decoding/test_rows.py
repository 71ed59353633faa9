"""Answers: rows that can be read and rows that cannot, counts, one pod, deletions and logs."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given

from primepods import HistoryRecord, Pod
from primepods._decoding.fields import DecodeError
from primepods._decoding.pods import decode_deletion, decode_log, decode_pod, decode_statuses
from primepods._decoding.rows import decode_listed_ids, decode_object, decode_page
from tests.fixtures import document
from tests.support.json_values import VALUES

POD: dict[str, Any] = document("pods_page")["data"][0]
STATUS: dict[str, Any] = document("status_two_pods")["data"][0]

LISTINGS: list[Callable[[Any], Any]] = [
    decode_statuses,
    lambda body: decode_page(body, Pod, 0, 1),
    lambda body: decode_page(body, HistoryRecord, 0, 1),
]
OBJECTS: list[Callable[[Any], Any]] = [
    lambda body: decode_pod(body, "p"),
    lambda body: decode_object(body, Pod),
]


def test_a_row_that_cannot_be_read_hides_no_other() -> None:
    """All others are there, and each error says which and whose row it is, as far as that can be read."""
    good = [{**STATUS, "podId": f"p{index}"} for index in range(3)]
    bad = [{**STATUS, "podId": "b", "ip": 5}, "no row", {"podId": 17, "costPerHr": []}, {"podId": {}}]
    rows, errors = decode_statuses({"data": [good[0], bad[0], good[1], *bad[1:], good[2]]})
    assert [row.pod_id for row in rows] == ["p0", "p1", "p2"]
    assert [(error.path, error.index, error.row_id) for error in errors] == [
        ("data[1].ip", 1, "b"),
        ("data[3]", 3, None),
        ("data[4].costPerHr", 4, "17"),
        ("data[5].podId", 5, None),
    ]


@pytest.mark.parametrize("decode", LISTINGS)
def test_no_data_is_an_empty_list_but_the_key_is_there(decode: Callable[[Any], Any]) -> None:
    """`data: null` has no rows; an answer without `data` is none."""
    rows, errors = decode({"data": None})
    assert len(rows) == len(errors) == 0
    with pytest.raises(DecodeError, match=r"^data: is missing$"):
        decode({"total_count": 0})


@pytest.mark.parametrize("rows", [{}, "text", 5, True])
@pytest.mark.parametrize("decode", LISTINGS)
def test_data_is_a_list(decode: Callable[[Any], Any], rows: Any) -> None:
    """Something else is an error of the whole answer."""
    with pytest.raises(DecodeError, match=r"^data: expected a list, got "):
        decode({"data": rows})


@pytest.mark.parametrize("body", [None, "text", 5, True, [], [POD]])
@pytest.mark.parametrize("decode", [*LISTINGS, *OBJECTS])
def test_an_answer_is_an_object(decode: Callable[[Any], Any], body: Any) -> None:
    """A list or text in place of the promised object is an error of the whole answer, whose path is empty."""
    with pytest.raises(DecodeError, match=r"^expected an object, got ") as caught:
        decode(body)
    assert caught.value.path == ""


@pytest.mark.parametrize("name", ["total_count", "offset", "limit"])
def test_counts_of_a_page_are_numbers(name: str) -> None:
    """As text, too; negative ones are nought; anything else is named."""
    for sent, count in (("12", 12), (12, 12), (-12, 0), (0, 0)):
        assert getattr(decode_page({"data": [], name: sent}, Pod, 5, 5)[0], name) == count
    values: list[Any] = ["many", {}, True, "9" * 5_000]
    for value in values:
        with pytest.raises(DecodeError, match="expected") as caught:
            decode_page({"data": [], name: value}, Pod, 0, 1)
        assert caught.value.path == name


def test_one_pod_is_the_one_that_was_asked_for() -> None:
    """Only `get` knows the id that an answer lacks; another id is another pod's state."""
    without = {key: value for key, value in POD.items() if key != "id"}
    assert decode_pod(without, "asked").id == decode_pod({**POD, "id": None}, "asked").id == "asked"
    with pytest.raises(DecodeError, match=r"^id: expected 'asked', got "):
        decode_pod(POD, "asked")
    with pytest.raises(DecodeError, match=r"^id: is missing$"):
        decode_object(without, Pod)
    with pytest.raises(DecodeError, match=r"^resources\.memory: expected a number, got 'much'$"):
        decode_object({**POD, "resources": {"memory": "much"}}, Pod)


@given(VALUES)
def test_no_json_breaks_a_decoder(data: Any) -> None:
    """Whatever a server answers, the outcome is a value or a `DecodeError`."""
    decode_ids: Callable[[Any], Any] = partial(decode_listed_ids, offset=0, limit=9)
    decoders: list[Callable[[Any], Any]] = [*LISTINGS, *OBJECTS, decode_deletion, decode_log, decode_ids]
    for decode in decoders:
        for body in (data, {"data": data}, {"data": [data]}, {"data": [{"podId": data, "ip": data}]}):
            with suppress(DecodeError):
                decode(body)


def test_ids_of_a_list_are_read_from_unreadable_rows() -> None:
    """What else is in a row does not matter, as long as there are ids at all."""
    body = {"total_count": "4", "data": [{"id": "a", "gpuCount": "x"}, {"id": 7}, None, {"id": []}]}
    listed = decode_listed_ids(body, 0, 100)
    assert (listed.data, listed.total_count, listed.limit) == (("a", "7", "null", '{"id": []}'), 4, 100)
    with pytest.raises(DecodeError, match=r"^data\[0\]\.id: is missing$"):
        decode_listed_ids({"total_count": 1, "data": [{"x": 1}]}, 0, 100)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        *[(None, ""), ("", ""), ("a\nb\n", "a\nb\n"), ([], ""), (["a", "b"], "a\nb")],
        *[({"logs": "a\nb"}, "a\nb"), ({"data": ["a", "b"]}, "a\nb"), ({"logs": None}, "")],
        ({"something": "else"}, '{"something": "else"}'),
        ([{"message": "a"}, 5], '{"message": "a"}\n5'),
    ],
)
def test_a_log_is_text_whatever_it_is_wrapped_in(body: Any, text: str) -> None:
    """The API does not say what the answer is: what is no text and no line is shown as JSON."""
    assert decode_log(body) == text
