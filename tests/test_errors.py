"""All errors: that they are documented, and that they travel between processes and threads without loss."""

import copy
import inspect
import pickle
from typing import Any, Final

import pytest

import primepods
from primepods import errors
from primepods._utils.exceptions import copy_exception
from primepods._utils.text import quote
from primepods.errors import (
    APIError,
    BudgetExceededError,
    CommandError,
    ConfigError,
    ConnectionLostError,
    CreateUncertainError,
    FieldError,
    JobError,
    LoginError,
    NotFoundError,
    NotReleasedError,
    PodFailedError,
    PrimePodsError,
    ProtocolError,
    RequestTimeoutError,
    TransportError,
    ValidationError,
    WaitError,
    WaitTimeoutError,
)
from primepods.models import PodState, PodStatus

LAST = PodStatus(pod_id="a", status=PodState("HIBERNATING"), extra={"someNewField": {"x": 1}})


def example(kind: type[PrimePodsError]) -> PrimePodsError:
    """An error of a class, with a value in every attribute that it has."""
    response = {"status_code": 422, "method": "POST", "path": "/p", "message": "No.", "body": {"a": ["b"]}}
    response |= {"headers": {"x-request-id": "r-1"}, "retry_after": 2.5}
    wait = {"statuses": {"a": LAST}, "pending": ("a", "b")}
    all_fields: dict[type[PrimePodsError], dict[str, Any]] = {
        RequestTimeoutError: {"limit": "deadline"},
        TransportError: {"method": "GET", "path": "/p", "attempts": 3, "maybe_received": True},
        ProtocolError: {"method": "GET", "url_path": "/p", "path": "data[3].gpuCount", "excerpt": '"many"'},
        ValidationError: {"errors": (FieldError("p", "d"),)},
        APIError: response,
        CreateUncertainError: {"name": "n"},
        NotReleasedError: {"pod_id": "a", "name": "n", "price_hr": 1.5},
        BudgetExceededError: {"pod_id": "a", "budget": "hours", "spent": 3.0, "limit": 2.0},
        LoginError: {"pod_id": "a", "said": "s"},
        JobError: {"pod_id": "a", "name": "n"},
        ConnectionLostError: {"pod_id": "a", "stdout": "o", "stderr": "e"},
        CommandError: {"pod_id": "a", "exit_code": 3, "stdout": "o", "stderr": "e", "seconds": 1.5},
        PodFailedError: {"pod_id": "a", "last": LAST, "reason": "status ERROR"},
        WaitError: wait,
    }
    fields: dict[str, Any] = {}
    for base, more in all_fields.items():
        fields |= more if issubclass(kind, base) else {}
    error = kind("what happened", **fields)
    error.add_note("first note")
    return error


ALL: Final[list[type[PrimePodsError]]] = [
    getattr(errors, name) for name in errors.__all__ if name not in {"FieldError", "PrimePodsErrorGroup"}
]


def test_each_error_is_exported_and_has_its_remedy() -> None:
    """One base class catches all; the documentation lists what the docstrings say to do."""
    for kind in ALL:
        assert issubclass(kind, PrimePodsError)
        has_remedy = "\n\nRemedy:\n    " in (inspect.getdoc(kind) or "")
        assert has_remedy or kind.__bases__ == (errors.APIError,), kind
    for name in errors.__all__:
        assert getattr(primepods, name) is getattr(errors, name)


class PickyError(Exception):
    """As of a library: what it keeps is not what its constructor wants."""

    def __init__(self, first: str, *, second: int) -> None:
        super().__init__(first)
        self.second = second


def pickled(error: BaseException) -> BaseException:
    """An error as it comes out in another process."""
    other = pickle.loads(pickle.dumps(error))
    assert isinstance(other, BaseException)
    return other


WAYS = (copy.copy, copy.deepcopy, pickled, copy_exception)


@pytest.mark.parametrize(
    ("kind", "make"), [*((kind, make) for kind in ALL for make in WAYS), (PickyError, copy_exception)]
)
def test_errors_are_copied_with_all_they_carry(kind: type[Exception], make: Any) -> None:
    """Class, message and attributes survive the way to another process or waiter; notes are not shared."""
    error = PickyError("what happened", second=2) if kind is PickyError else example(kind)  # type: ignore[arg-type]  # each kind has arguments of its own
    error.__notes__ = ["first note"]
    error.__cause__ = cause = OSError("the cause")
    with pytest.raises(kind):
        raise error
    other = make(error)
    assert other is not error
    assert (type(other), str(other), other.args) == (kind, "what happened", error.args)
    assert vars(other) == vars(error)
    assert other.__traceback__ is None
    assert make is not copy_exception or other.__cause__ is cause
    other.add_note("second note")
    assert (error.__notes__, other.__notes__) == (["first note"], ["first note", "second note"])


def test_a_subclass_of_a_users_own_pickles_as_well() -> None:
    """Whoever derives an error with arguments of its own need not know how ours are pickled."""
    error = OwnError("a", "b")
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), other.args, other.second) == (OwnError, ("a",), "b")


class OwnError(ConfigError):
    """An error whose constructor wants more than the message."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


@pytest.mark.parametrize("kind", [RequestTimeoutError, WaitTimeoutError])
def test_timeouts_are_timeouts(kind: type[PrimePodsError]) -> None:
    """`except TimeoutError` catches ours, and their text is the message alone."""
    with pytest.raises(TimeoutError) as caught:
        raise example(kind)
    assert str(caught.value) == "what happened"


def test_an_api_error_knows_its_request_id() -> None:
    """`attempts` counts from one; the id comes from the headers that carry it, the best one first."""
    fields: dict[str, Any] = {"status_code": 404, "method": "GET", "path": "/p", "message": "m"}
    headers = {"cf-ray": "c", "request-id": "r", "x-request-id": "x"}
    assert NotFoundError("t", **fields).attempts == 1
    assert NotFoundError("t", **fields).request_id is None
    for best in ("x", "r", "c"):
        assert NotFoundError("t", **fields, headers=headers).request_id == best
        headers.popitem()


def test_an_error_keeps_headers_of_its_own() -> None:
    """What becomes of the mapping that it was made from does not change the error."""
    headers = {"x-request-id": "r-1"}
    error = APIError("t", status_code=500, method="GET", path="/p", message="m", headers=headers)
    headers.clear()
    assert error.headers == {"x-request-id": "r-1"}


def test_a_copy_of_an_error_without_notes_has_none() -> None:
    """Nor does it get a cause."""
    other = copy_exception(ValueError("v"))
    assert (type(other), other.args, other.__cause__) == (ValueError, ("v",), None)
    assert not hasattr(other, "__notes__")


class StrangeError:
    """A value whose `repr` fails."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        (None, "None"),
        ("a\x1b[2Jb", r"'a\x1b[2Jb'"),
        (StrangeError(), "<StrangeError>"),
        ("x" * 98, f"'{'x' * 98}'"),
        ("x" * 99, f"'{'x' * 99}…"),
        (["x"] * 1_000, f"{(['x'] * 50)!r}"[:100] + "…"),
    ],
)
def test_a_callers_value_is_shown_whatever_it_is(value: object, text: str) -> None:
    """Short, printable, and never another exception in place of the one that is being made."""
    assert quote(value) == text
    assert len(text) <= 101


def test_a_number_of_thousands_of_digits_is_shown_by_its_kind() -> None:
    """Python refuses to write it out."""
    assert quote(10**5_000) == "<int>"
