"""The converter, with and without compiled decoders, and what it leaves behind."""

import copy
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import HistoryRecord, InstallationState, Offer, Pod, PodState, PodStatus
from primepods._decoding.converter import make_converter
from primepods._decoding.fields import DecodeError
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page
from tests.fixtures import document
from tests.support.json_values import VALUES_BEYOND_JSON

ROWS: list[tuple[Any, dict[str, Any]]] = [
    (model, row)
    for model, name in (
        (Pod, "pods_page"),
        (PodStatus, "status_odd_rows"),
        (PodStatus, "status_two_pods"),
        (HistoryRecord, "history_page"),
        (Offer, "offer"),
    )
    for row in document(name)["items" if model is Offer else "data"]
]
COMPILED, PLAIN = make_converter(), make_converter(compiled=False)

NUMBERS = ["17", " 8 ", "-12345678901234567890", "1.5", "1_000", "٣", "nan", "1e999", "", -0.5, 2**70, True]
WORDS = ["ACTIVE", "HIBERNATING", "text"]
MOMENTS = [
    *("2026-11-07T05:31:56Z", "2026-11-07 05:31:56z", "2026-11-07", "20261107T053156Z", "2026-11-07ß05:31Z"),
    *("2026-W45-6T05:31Z", "2026W45-05:31:56Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"),
]
OTHERS = [None, 8, 1.0, 0.5, float("inf"), float("nan"), [], ["a"], [None], {}, {"a": 1}]
POOL: list[Any] = [*NUMBERS, *WORDS, *MOMENTS, *OTHERS]
VALUES = st.sampled_from(POOL) | VALUES_BEYOND_JSON
ABSENT = object()


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to each part of a document, as keys and indices."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (key,)
        yield from ((key, *rest) for rest in places(item))


@st.composite
def changed_rows(draw: st.DrawFn) -> tuple[Any, Any]:
    """A model and a row of it in which up to three parts are absent, something else, or not known."""
    model, row = draw(st.sampled_from(ROWS))
    row = copy.deepcopy(row)
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(list(places(row))))
        holder = row
        for key in way:
            holder = holder[key]
        # A copy: what is drawn is the same object each time, and may be changed below.
        value = draw(st.just(ABSENT) | VALUES.map(copy.deepcopy))
        if value is ABSENT:
            del holder[last]
        elif isinstance(last, str):
            holder[draw(st.sampled_from([last, "priceHr", "extra", "aNewField"]))] = value
        else:
            holder[last] = value
    return model, row


def outcome(converter: Any, row: Any, model: Any) -> str:
    """What a converter makes of a row, with all types in it, or what it says is wrong."""
    try:
        return repr(attrs.astuple(converter.structure(row, model), recurse=True))
    except DecodeError as exc:
        return repr((exc.path, exc.reason, exc.value))


@given(changed_rows() | st.tuples(st.sampled_from([Pod, PodStatus, HistoryRecord]), VALUES))
def test_compiled_decoders_change_nothing_but_the_time(changed: tuple[Any, Any]) -> None:
    """Equal models, or equal errors at equal places, for any document."""
    model, row = changed
    assert outcome(COMPILED, row, model) == outcome(PLAIN, row, model)


@pytest.mark.parametrize("model", [Pod, PodStatus, HistoryRecord])
def test_compiled_decoders_read_each_value_in_each_place_alike(model: Any) -> None:
    """What a field may hold, and what it may not, one at a time."""
    for row in (row for kind, row in ROWS if kind is model):
        for *way, last in places(row):
            for value in POOL:
                changed = holder = copy.deepcopy(row)
                for key in way:
                    holder = holder[key]
                holder[last] = value
                assert outcome(COMPILED, changed, model) == outcome(PLAIN, changed, model)


def test_compiled_decoders_are_worth_it() -> None:
    """They take a third of the time: they read good rows themselves, and leave none to the others."""

    def seconds(converter: Any) -> float:
        began = time.thread_time()
        for model, row in ROWS:
            converter.structure(row, model)
        return time.thread_time() - began

    rounds = [(seconds(COMPILED), seconds(PLAIN)) for _ in range(50)]
    assert min(compiled for compiled, _ in rounds) < 0.7 * min(plain for _, plain in rounds)


def test_equal_parts_of_pods_are_not_one() -> None:
    """Who changes the `extra` of one pod changes no other pod, and none that is decoded later."""
    port = {"internal": "22", "external": "22", "aNewField": {"a": 1}}
    row = {"podId": "p", "primePortMapping": [port], "anotherField": [1]}
    body = json.dumps({"data": [row, row]})
    first, second = decode_statuses(json.loads(body))[0]
    first.prime_port_mapping[0].extra["aNewField"]["a"] = 2
    first.extra["anotherField"].append(2)
    for status in (second, *decode_statuses(json.loads(body))[0]):
        assert status.prime_port_mapping[0].extra == {"aNewField": {"a": 1}}
        assert status.extra == {"anotherField": [1]}


@pytest.mark.slow
def test_nothing_decoded_is_kept() -> None:
    """Not parts or words that differ from pod to pod: what is dropped is gone."""

    def decode(first: int) -> None:
        for number in range(first, first + 1_000):
            text = f"{number}" + "x" * 400
            part = {"id": text, "internal": text, "external": text, "usedBy": text, f"field{number}": number}
            row = {**POD, "primePortMapping": [part], "attachedResources": [part], "resources": part}
            decode_page(
                {"data": [{**row, "status": f"STATE_{number}", "providerType": f"p{number}"}]}, Pod, 0, 1
            )

    decode(0)
    gc.collect()
    tracemalloc.start()
    decode(1_000)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 200_000


POD = document("pods_page")["data"][0]


@pytest.mark.slow
def test_a_hundred_thousand_unknown_words_take_no_memory() -> None:
    """A vocabulary that grows without end is not remembered."""
    blocks = sys.getallocatedblocks()
    for number in range(100_000):
        assert not PodState(f"WORD{number}").is_known
        assert InstallationState(f"WORD{number}") == f"WORD{number}"
    gc.collect()
    assert sys.getallocatedblocks() < blocks + 2_000
