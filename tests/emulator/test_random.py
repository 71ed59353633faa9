"""Random requests made from the schema, and worse: no 500 and no answer that breaks the schema."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primepods.emulator import Emulator, ManualClock
from tests.fixtures import document

from .caller import PODS, Answer, Caller
from .schema import ERRORS, Operation, Schema, official, problems, resolve, retyped

INT64 = 2**63
REFUSALS = {400, 401, 402, 403, 404, 405, 413, 422}

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ODD_TEXT = st.text() | st.sampled_from(
    ["", "\0", "null", "-1", "1e9", str(2**63), "9" * 5000, "\u0661", "%00", "a,b"]
)
# Not "status", "history" or nothing at all: with those it would be another operation.
IDS = st.sampled_from(["pod", "gone", "key", "..", "%2e", "a/b", "\0"]) | st.text(min_size=1, max_size=20)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """An emulator in which everything is there once."""
    clock = ManualClock()
    with Emulator(pods=5, history=20, flaky_rate=0.5, cluster_rate=0.5, stock=3, clock=clock) as emu:
        emu.add_pod(id="pod", staggered=True, nodes=3)
        emu.advance(12)
        yield Caller(emu)


def valid(schema: Schema, schemas: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema allows; integers that a database can hold, and no NUL bytes."""
    schema = resolve(schema, schemas)
    if "anyOf" in schema:
        return st.one_of([valid(each, schemas) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    most = schema.get("maximum")
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        "integer": st.integers(int(least), INT64 - 1 if most is None else most),
        "number": st.floats(float(least), 1e15, exclude_min=True),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    if schema.get("type") == "array":
        return st.lists(valid(schema["items"], schemas), max_size=3)
    if schema.get("type") == "object":
        properties = {name: valid(inner, schemas) for name, inner in schema.get("properties", {}).items()}
        required = {name: properties.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=properties)
    return kinds[schema["type"]] if "type" in schema else JUNK


def as_query(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A query as clients spell it: lists by repetition, nothing for null."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        pairs.extend(
            (name, str(each)) for each in (value if isinstance(value, list) else [value]) if each is not None
        )
    return pairs


def ask(
    caller: Caller, operation: Operation, path: str, query: list[tuple[str, str]], body: bytes | None
) -> Answer:
    """Ask, and check whatever comes back."""
    answer = caller(operation.method, path, query, body=body)
    assert answer.status == 200 or answer.status in REFUSALS, (operation.path, answer)
    if answer.status == 200:
        found = list(problems(answer.json, operation.answer, operation.schemas))
        assert not found, found
    elif answer.status == 422:
        assert not list(problems(answer.json, ERRORS, {}))
    else:
        assert answer.json["detail"]
    return answer


def path_of(operation: Operation, ident: str) -> str:
    """The operation's path, about this pod or key."""
    head, brace, tail = operation.path.partition("{")
    return head + (quote(ident, safe="") + tail.partition("}")[2] if brace else "")


OPERATIONS = [pytest.param(op, id=f"{op.method} {op.path}") for op in retyped()]
OFFICIAL = [pytest.param(op, id=f"official {op.method} {op.path}") for op in official()]
RANDOM = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS + OFFICIAL)
@RANDOM
@given(data=st.data())
def test_what_the_schema_allows_is_understood(
    caller: Caller, operation: Operation, data: st.DataObject
) -> None:
    """Never a 422, never an answer that breaks the schema."""
    query = as_query(
        {name: data.draw(valid(each, operation.schemas)) for name, each in operation.query.items()}
    )
    body = data.draw(valid(operation.body, operation.schemas)) if operation.body is not None else None
    encoded = None if body is None else json.dumps(body).encode()
    ident = data.draw(st.sampled_from(["pod", "gone"]))
    answer = ask(caller, operation, path_of(operation, ident), query, encoded)
    assert answer.status != 422, answer.body


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS + OFFICIAL)
@RANDOM
@given(data=st.data())
def test_what_the_schema_forbids_is_refused(
    caller: Caller, operation: Operation, data: st.DataObject
) -> None:
    """With a 4xx, whatever it is: odd values, keys given twice, bodies of any kind."""
    keys = st.sampled_from([*operation.query, "unknown"])
    query = data.draw(st.lists(st.tuples(keys, ODD_TEXT), max_size=4))
    bodies = [JUNK.map(lambda value: json.dumps(value).encode()), st.binary()]
    if operation.body is not None:
        bodies.append(valid(operation.body, operation.schemas).map(lambda value: mangled(value, data)))
    body = data.draw(st.none() | st.one_of(bodies)) if operation.method in {"POST", "PATCH"} else None
    if sum(len(urlencode([pair])) for pair in query) < 7000:
        ask(caller, operation, path_of(operation, data.draw(IDS)), query, body)


def mangled(value: Any, data: st.DataObject) -> bytes:
    """A valid body with one thing in it that is not."""
    place = value
    while isinstance(place, dict) and place and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict):
            place[key] = data.draw(JUNK)
            break
        place = place[key]
    if isinstance(place, dict):
        place[data.draw(st.text())] = data.draw(JUNK)
    return json.dumps(value).encode()


@pytest.mark.parametrize("operation", OFFICIAL)
def test_every_operation_of_the_vendor_s_document_is_served(caller: Caller, operation: Operation) -> None:
    """And typed above with the same path and method, keys of the query and required fields of the answer."""
    [mine] = [each for each in retyped() if (each.method, each.path) == (operation.method, operation.path)]
    assert mine.query.keys() == operation.query.keys()
    required: list[str] = resolve(mine.answer, mine.schemas).get("required", [])
    theirs = resolve(operation.answer, operation.schemas).get("required", required)
    assert sorted(required) == sorted(theirs)
    answer = caller(operation.method, path_of(operation, "pod"))
    assert answer.status != 307
    assert answer.json.get("detail") not in {"Not Found", "Method Not Allowed"}


@RANDOM
@given(line=st.binary(max_size=200), method=st.sampled_from([b"GET ", b"POST ", b"BREW ", b"\x00", b""]))
def test_any_bytes_are_answered_or_dropped(caller: Caller, line: bytes, method: bytes) -> None:
    """What is no HTTP gets a 4xx or nothing; never a 5xx, never a hang."""
    answer = caller.raw(method + line + b" HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n", last=True)
    assert answer == b"" or answer.split(b" ")[1][:1] in {b"2", b"3", b"4"}
    assert caller("GET", PODS).status == 200


def test_the_validator_finds_what_is_wrong() -> None:
    """A test of the test: every kind of damage to a pod's page is seen."""
    [listing] = [op for op in retyped() if (op.method, op.path) == ("GET", PODS)]
    pod = document("pods_page")["data"][0] | {"resources": None}
    good = {"data": [pod], "offset": 0}
    assert not list(problems(good, listing.answer, listing.schemas))
    damages: list[Any] = [
        {"data": None},
        {**good, "offset": -1},
        {**good, "offset": True},
        {"data": [{**pod, "gpuCount": "1"}]},
        {"data": [{**pod, "gpuName": "H99"}]},
        {"data": [{**pod, "ip": [1]}]},
        {"data": [{**pod, "createdAt": "yesterday"}]},
        {"data": [{key: value for key, value in pod.items() if key != "name"}]},
        [],
    ]
    for damage in damages:
        assert list(problems(damage, listing.answer, listing.schemas)), damage
