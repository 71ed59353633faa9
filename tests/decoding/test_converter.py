"""The fast decoders give what the precise ones give, or give up where those do."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods._decoding import precise as _precise
from primepods._decoding import rows as _convert
from primepods._decoding.compiled import reusing
from primepods.models import HistoryRecord, Pod, PodStatus

FIXTURES = Path(__file__).parent.parent / "fixtures"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one of the sample documents."""
    found: list[dict[str, Any]] = json.loads((FIXTURES / name).read_bytes())["data"]
    return found


ROWS: list[tuple[Any, dict[str, Any]]] = [
    *((Pod, row) for row in rows("pods_page.json")),
    *((PodStatus, row) for row in rows("status_odd_rows.json")),
    *((PodStatus, row) for row in rows("status_two_pods.json")),
    *((HistoryRecord, row) for row in rows("history_page.json")),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["17", "1.5", "ACTIVE", "2026-11-07T05:31:56Z", "", "nan", "1_000"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


def outcome(decode: Any, row: Any, model: Any) -> Any:
    """What a decoder makes of a row; `None` for a refusal."""
    try:
        made = decode(row, model)
    except Exception:  # noqa: BLE001 - whatever it is, it is a refusal
        return None
    return [(type(value), value) for value in attrs.astuple(made, recurse=False)]


@given(row=st.sampled_from(ROWS), key=st.integers(0, 40), value=JSON, drop=st.booleans())
def test_both_passes_agree_on_any_row(
    row: tuple[Any, dict[str, Any]],
    key: int,
    value: Any,
    drop: bool,  # noqa: FBT001 - given by name
) -> None:
    """Whatever stands in a field, or if it is missing, both decoders build equal models or both refuse."""
    model, document = row
    keys = [*document, "anUnknownField"]
    name = keys[key % len(keys)]
    changed = {k: v for k, v in document.items() if not (drop and k == name)}
    if not drop:
        changed[name] = value
    fast = outcome(_convert.fast_hooks()[model], changed, model)
    precise = outcome(_precise.converter().structure, changed, model)
    assert repr(fast) == repr(precise)


@pytest.mark.parametrize("value", [{"a": True}, {"a": 1}, {"a": 1.0}, [1], [True], {"a": [1.0]}])
def test_parts_that_are_only_equal_are_not_shared(value: Any) -> None:
    """True, 1 and 1.0 are equal in Python and three different things in JSON."""
    read = reusing(lambda found, _: repr(found))
    for other in ({"a": True}, {"a": 1}, {"a": 1.0}, [1], [True], [1.0], {"a": [1.0]}, {"a": [True]}):
        read(other, None)
    assert read(value, None) == repr(value)


def test_equal_parts_are_shared_within_a_bound() -> None:
    """The same part of another row is the same object, and a million different ones are not kept."""
    made: list[Any] = []

    def hook(found: Any, _: Any) -> Any:
        made.append(found)
        return found

    read = reusing(hook)
    assert read({"a": "x"}, None) is read({"a": "x"}, None)
    for number in range(10_000):
        read({"a": number}, None)
    assert len(made) == 10_001
    read({"a": 9_999}, None)
    assert len(made) == 10_001
    read({"a": 0}, None)
    assert len(made) == 10_002


def test_words_are_shared_within_a_bound() -> None:
    """A provider's name is one string in all rows; a name like no other, or a long one, is not kept."""
    document = next(row for model, row in ROWS if model is PodStatus)

    def provider(text: str) -> str | None:
        row = json.loads(json.dumps({**document, "providerType": text}))
        made: PodStatus = decode(row, PodStatus)
        assert made.provider_type == text
        return made.provider_type

    decode = _convert.fast_hooks.__wrapped__()[PodStatus]
    assert provider("a provider") is provider("a provider")
    assert provider("x" * 65) is not provider("x" * 65)
    for number in range(2_000):
        provider(f"provider {number}")
    assert provider("provider 1999") is not provider("provider 1999")
    assert provider("a provider") is provider("a provider")
