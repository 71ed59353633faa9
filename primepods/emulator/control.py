"""Control routes under ``/_emulator/``, which read and change the emulator's state over HTTP.

They exist only with ``Emulator(control=True)``, and require any of the emulator's API keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import attrs

from ._api.api import Api
from ._api.http import Request, Response, ResponseError, detail, encode, ok
from ._api.router import Handler, Route, Router
from ._api.validation import Check, json_body, number, object_of, string
from ._state.account import Account
from ._state.pods import PodOverrides
from ._state.snapshot import dump, restore
from .faultplan import FaultPlan, Rule
from .faults import KINDS
from .requestlog import RequestLog

PREFIX = "/_emulator/"
INFINITY = "inf"
"""Text for infinity, which JSON cannot represent."""


class Control:
    """The control routes of one emulator."""

    def __init__(
        self, api: Api, account: Account, faults: FaultPlan, requests: RequestLog, reset: Callable[[], None]
    ) -> None:
        self._api = api
        self._account = account
        self._plan = faults
        routes: list[tuple[str, str, Callable[[Request], object]]] = [
            ("GET", "state", lambda _: dump(account)),
            ("PUT", "state", lambda request: restore(account, _body(request))),
            ("POST", "reset", lambda _: reset()),
            ("POST", "advance", self._advance),
            ("POST", "seed", self._seed),
            ("POST", "pods", self._add_pod),
            ("POST", "stock", self._set_stock),
            (
                "POST",
                "price",
                lambda request: account.set_price(**_body(request, cloud_id=string, price_hr=number)),
            ),
            ("POST", "funds", lambda request: account.add_funds(**_body(request, dollars=number))),
            ("GET", "faults", lambda _: {"faults": [_rule_row(rule) for rule in faults]}),
            ("POST", "faults", self._add_fault),
            ("DELETE", "faults", lambda _: faults.clear()),
            ("GET", "requests", lambda _: {"requests": [attrs.asdict(entry) for entry in requests[:]]}),
            ("DELETE", "requests", lambda _: requests.clear()),
        ]
        about_one: list[tuple[str, str, Handler]] = [
            ("DELETE", "pods/{pod_id}", self._remove_pod),
            ("DELETE", "faults/{number}", self._remove_fault),
        ]
        self._router = Router(
            [
                Route(name=path, method=method, path=PREFIX + path, handler=handler)
                for method, path, handler in (*routes, *about_one)
            ]
        )

    def respond(self, request: Request) -> Response:
        """Respond to a request.

        Invalid input gets a 422, an unknown id a 404, and ``advance`` without a ``ManualClock`` a 409.
        """
        try:
            route, params = self._router.resolve(request)
            self._api.authenticate(request)
            value: object = route.handler(request, **params)
        except ResponseError as error:
            return error.response
        except KeyError as error:
            return detail(404, f"There is no {error.args[0]!r}")
        except RuntimeError as error:
            return detail(409, str(error))
        except (TypeError, ValueError) as error:
            return detail(422, str(error.args[0]))
        return ok({"done": True} if value is None else value)

    def _advance(self, request: Request) -> dict[str, object]:
        self._account.advance(_body(request, seconds=number)["seconds"])
        return {"now": self._account.clock.now()}

    def _seed(self, request: Request) -> None:
        body = {"pods": 0, "history": 0, **_body(request)}
        self._account.seed(int(body["pods"]), int(body["history"]))

    def _add_pod(self, request: Request) -> dict[str, object]:
        overrides = _body(request)
        name = overrides.pop("name", None)
        return {"id": self._account.add_pod(name, cast("PodOverrides", overrides))}

    def _set_stock(self, request: Request) -> None:
        body = _body(request, cloud_id=string, left=number)
        self._account.set_stock(body["cloud_id"], int(body["left"]))

    def _add_fault(self, request: Request) -> dict[str, object]:
        body = _body(request)
        kind = KINDS.get(body.pop("kind", None))
        if kind is None:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        names = {field.name for field in attrs.fields(kind)} & body.keys()
        arguments = {name: body.pop(name) for name in names}
        if arguments.get("seconds") == INFINITY:
            arguments["seconds"] = math.inf
        return _rule_row(self._plan.add(kind(**arguments), **body))

    def _remove_pod(self, _request: Request, pod_id: str) -> None:
        self._account.remove_pod(pod_id)

    def _remove_fault(self, _request: Request, number: str) -> None:
        rules = {str(rule.number): rule for rule in self._plan}
        rules[number].remove()


def _body(request: Request, **required: Check) -> dict[str, Any]:
    """Parse a JSON object with the ``required`` fields; a missing body counts as an empty object."""
    if not request.body:
        request = attrs.evolve(request, body=b"{}")
    return json_body(request, object_of(required))


def _rule_row(rule: Rule) -> dict[str, object]:
    """Return a rule as JSON. The kind of a user-defined fault is its class name."""
    fault_class = type(rule.fault)
    return {
        "number": rule.number,
        "kind": next((name for name, kind in KINDS.items() if kind is fault_class), fault_class.__name__),
        "hits": rule.hits,
        "fault": {name: _json_ready(value) for name, value in attrs.asdict(rule.fault).items()},
        "when": {name: _json_ready(value) for name, value in attrs.asdict(rule.when).items()},
    }


def _json_ready(value: object) -> object:
    """Convert a value to JSON's types; a value that JSON cannot represent becomes its ``repr``."""
    if value == math.inf:
        return INFINITY
    if isinstance(value, frozenset):
        value = sorted(cast("frozenset[object]", value), key=str)
    try:
        encode(value)
    except (TypeError, ValueError):
        return repr(value)
    return value
