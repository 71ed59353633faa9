"""JSON: both decoders see the same, and what is no JSON is a `ValueError` and nothing else."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods._utils import strict_json as _json
from tests.support.json_values import VALUES_BEYOND_JSON

ORJSON: Any = vars(_json)["orjson"]


@pytest.fixture(params=["orjson", "standard library"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways to decode JSON, as far as it is installed."""
    if request.param == "standard library":
        monkeypatch.setattr(_json, "orjson", None)
    elif ORJSON is None:
        pytest.skip("orjson is not installed")
    return str(request.param)


NOT_JSON = {
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"a": 1',
    "text": b"Internal Server Error",
    "two values": b"{} {}",
    "NaN": b'{"a": NaN}',
    "Infinity": b"[-Infinity]",
    "a number that is infinite": b"[1e999]",
    "a negative one": b"[-1e999]",
    "an integer that is infinite": b"9" * 400,
    "an integer longer than Python reads": b"9" * 5_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a bare control code": b'"a\x01"',
    "half a surrogate pair": b'["\\ud83d"]',
    "the other half": b'{"\\uDE00": 1}',
    "too many brackets": b"[" * 100_000,
    "closed ones": b"[" * 50_000 + b"]" * 50_000,
    "too many braces": b'{"a":' * 100_000,
    "single quotes": b"{'a': 1}",
    "a comment": b"{} // no",
    "a trailing comma": b"[1,]",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_is_a_value_error(decoder: str, name: str) -> None:
    """With either decoder, and without another exception, however the bytes are broken."""
    with pytest.raises(ValueError, match=r".+"):
        _json.loads(NOT_JSON[name])


def test_json_keeps_what_it_means(decoder: str) -> None:
    """Pairs of surrogates, escapes, big and small numbers, and the last of two equal keys."""
    text = rb'{"a": "\ud83d\ude00 \u0000\u00e9 \\ud800", "b": [0, -0.0, 1e5, 1.5], "c": 1, "c": 2}'
    value = _json.loads(text)
    assert value == {"a": "\U0001f600 \0é \\ud800", "b": [0, 0.0, 100_000.0, 1.5], "c": 2}
    assert [type(number) for number in value["b"]] == [int, float, float, float]
    assert math.copysign(1, value["b"][1]) == -1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9223372036854775807", 2**63 - 1),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", float(2**64)),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -float(2**63)),
        (b"1" + b"0" * 300, 1e300),
    ],
)
def test_integers_are_exact_as_far_as_both_decoders_go(decoder: str, text: bytes, value: float) -> None:
    """Beyond 64 bits they are floats, whether orjson is installed or not."""
    assert (_json.loads(text), type(_json.loads(text))) == (value, type(value))


@st.composite
def broken_json(draw: st.DrawFn) -> bytes:
    """JSON text, most of it with something cut out, put in or doubled."""
    text = json.dumps(draw(VALUES_BEYOND_JSON), ensure_ascii=draw(st.booleans())).encode(
        errors="surrogatepass"
    )
    start, end = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    piece = draw(
        st.sampled_from([text[start:end], b"", b"\\ud800", b"e999", b"\xff", b"0", b'"', b"]", b"-"])
    )
    return draw(st.sampled_from([text, text[:start] + piece + text[end:]]))


def outcome(data: bytes) -> Any:
    """The decoded value with its types, or the word that there is none."""
    try:
        return repr(_json.loads(data))
    except ValueError:
        return "none"


@pytest.mark.skipif(ORJSON is None, reason="orjson is not installed")
@given(broken_json() | st.binary(max_size=12))
def test_both_decoders_see_the_same(data: bytes) -> None:
    """Installing the `speed` extra changes nothing but the speed: same values, same refusals."""
    fast = outcome(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json, "orjson", None)
        assert outcome(data) == fast


@given(VALUES_BEYOND_JSON)
def test_what_is_encoded_is_read_back(value: Any) -> None:
    """`dumps` makes JSON that `loads` understands, or says that it cannot be made."""
    try:
        data = _json.dumps(value)
    except ValueError:
        assert "nan" in repr(value) or "inf" in repr(value) or "\\ud" in repr(value)
        return
    assert outcome(data) != "none"
    assert json.loads(data) == value


def test_values_that_cannot_be_encoded_say_so() -> None:
    """Foreign types, a circle and a well too deep each raise what the docstring says."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        _json.dumps(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        _json.dumps(deep)
    assert _json.show(deep) == ""
    assert _json.show(circle) == ""
    with pytest.raises(TypeError):
        _json.dumps({"a": {1, 2}})
    assert _json.show({"a": 1, "b": "é"}) == '{"a": 1, "b": "é"}'
