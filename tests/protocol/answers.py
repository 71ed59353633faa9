"""Answers of the API, read and refused without a server."""

import json
import logging
import pickle
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from primepods import APIError, PrimePodsError, ProtocolError
from primepods._http import response as _answers
from primepods._http.request import PODS, Request
from primepods._http.response import Response, parse_response
from primepods._utils.secret import Secret
from primepods.config import Settings

KEY = Secret("pit_0123456789_secret_of_the_tests")
BASE_URL = "https://api.example.test"
SETTINGS = Settings(api_key=KEY, base_url=BASE_URL, key_source="environment variable PRIME_API_KEY")
NOW = datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)
PATH = f"{PODS}/my_pod_id"
PACKAGE = Path(_answers.__file__).parent


def ask(method: str = "GET", path: str = PATH, *, text_allowed: bool = False) -> Request:
    """A request for one pod, or for something else."""
    return Request(method=method, path=path, text_allowed=text_allowed)


def respond(status: int, body: Any = b"", **headers: str) -> Response:
    """An answer with JSON, or with bytes."""
    return Response(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def read(response: Response, request: Request | None = None) -> Any:
    """The data of an answer."""
    return parse_response(request or ask(), response, settings=SETTINGS, now=NOW.timestamp())


def fail(status: int, body: Any = b"", request: Request | None = None, **headers: str) -> APIError:
    """The error of an answer."""
    with pytest.raises(APIError) as caught:
        read(respond(status, body, **headers), request)
    return caught.value


def refuse(response: Response, request: Request | None = None) -> ProtocolError:
    """The error of an answer that breaks the contract."""
    with pytest.raises(ProtocolError) as caught:
        read(response, request)
    return caught.value


def outcome(response: Response, request: Request | None = None) -> PrimePodsError | None:
    """The error of an answer, if it is one."""
    try:
        read(response, request)
    except PrimePodsError as error:
        return error
    return None


# --- Secrets and control codes ---------------------------------------------------------------------


def told(error: PrimePodsError) -> str:
    """All that anybody could see of an error: text, attributes, pickle, log record, locals of our frames."""
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "%s %r", (error, error), None)
    pickled = pickle.dumps(error, protocol=0).decode("latin-1")
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    assert ours
    shown = [str(frame.locals) for frame in ours]
    return "\n".join([str(error), repr(error), repr(vars(error)), record.getMessage(), pickled, *shown])
