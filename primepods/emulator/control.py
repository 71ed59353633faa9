"""Routes under `/_emulator/`, for hands, scripts and other languages: they change what clients cannot.

They are off unless the emulator is made with `control=True`, and want the same key as the API.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import asdict
from attrs import fields as attrs_fields

from ._api.checks import checked, fields, json_body, text
from ._api.http import Call, Refused, Reply, detail, ok
from ._api.routes import Route, Router
from ._state.pods import PodOverrides
from .core import Core
from .faultplan import Rule
from .faults import KINDS, Fault

CONTROL = "/_emulator/"
FOR_EVER = "inf"
"""JSON has no infinity, which is how long a delay can be."""


class Control:
    """The control routes of one emulator."""

    def __init__(self, core: Core) -> None:
        self._core = core
        routes: list[tuple[str, str, Callable[..., Reply]]] = [
            ("GET", "state", self._state),
            ("PUT", "state", self._restore),
            ("POST", "reset", self._reset),
            ("POST", "advance", self._advance),
            ("POST", "seed", self._seed),
            ("POST", "pods", self._add_pod),
            ("DELETE", "pods/{pod_id}", self._delete_pod),
            ("POST", "stock", self._stock),
            ("POST", "funds", self._funds),
            ("GET", "faults", self._faults),
            ("POST", "faults", self._add_fault),
            ("DELETE", "faults", self._clear_faults),
            ("DELETE", "faults/{number}", self._remove_fault),
            ("GET", "requests", self._requests),
            ("DELETE", "requests", self._clear_requests),
        ]
        self._router = Router(
            [Route.of(path, method, CONTROL + path, handler) for method, path, handler in routes]
        )

    def answer(self, call: Call) -> Reply:
        """Do what is asked and reply; what makes no sense is a 422 that says why, what is not there a 404."""
        try:
            route, params = self._router.resolve(call)
            self._core.api.authenticate(call)
            return route.handler(call, **params)
        except Refused as refused:
            return refused.reply
        except KeyError as error:
            return detail(404, f"There is no {error.args[0]!r}")
        except RuntimeError as error:
            return detail(409, str(error))
        except (TypeError, ValueError) as error:
            return detail(422, str(error.args[0]))

    def _state(self, call: Call) -> Reply:
        del call
        return ok(self._core.snapshot())

    def _restore(self, call: Call) -> Reply:
        self._core.restore(_object(call))
        return _done()

    def _reset(self, call: Call) -> Reply:
        del call
        self._core.reset()
        return _done()

    def _advance(self, call: Call) -> Reply:
        self._core.advance(_number(_object(call), "seconds"))
        return ok({"now": self._core.clock.now()})

    def _seed(self, call: Call) -> Reply:
        body = _object(call)
        self._core.seed(int(_number(body, "pods", 0)), int(_number(body, "history", 0)))
        return _done()

    def _add_pod(self, call: Call) -> Reply:
        overrides = _object(call)
        name = cast("str | None", overrides.pop("name", None))
        return ok({"id": self._core.add_pod(name, cast("PodOverrides", overrides))})

    def _delete_pod(self, call: Call, pod_id: str) -> Reply:
        del call
        self._core.delete_pod(pod_id)
        return _done()

    def _stock(self, call: Call) -> Reply:
        body = _object(call)
        checked(body, fields({"cloud_id": text}, {}))
        self._core.set_stock(str(body["cloud_id"]), int(_number(body, "left")))
        return _done()

    def _funds(self, call: Call) -> Reply:
        self._core.add_funds(_number(_object(call), "dollars"))
        return _done()

    def _faults(self, call: Call) -> Reply:
        del call
        return ok({"faults": [_rule(rule) for rule in self._core.faults]})

    def _add_fault(self, call: Call) -> Reply:
        body = _object(call)
        kind = KINDS.get(str(body.pop("kind", None)))
        if kind is None:
            return detail(422, f"kind must be one of {', '.join(KINDS)}")
        names = {attribute.name for attribute in attrs_fields(kind)} & body.keys()
        arguments: Any = {name: body.pop(name) for name in names}
        if arguments.get("seconds") == FOR_EVER:
            arguments["seconds"] = math.inf
        return ok(_rule(self._core.faults.add(kind(**arguments), **cast("Any", body))))

    def _clear_faults(self, call: Call) -> Reply:
        del call
        self._core.faults.clear()
        return _done()

    def _remove_fault(self, call: Call, number: str) -> Reply:
        del call
        for rule in self._core.faults:
            if str(rule.number) == number:
                rule.remove()
                return _done()
        raise KeyError(number)

    def _requests(self, call: Call) -> Reply:
        del call
        return ok({"requests": [asdict(entry) for entry in self._core.requests[:]]})

    def _clear_requests(self, call: Call) -> Reply:
        del call
        self._core.requests.clear()
        return _done()


def _done() -> Reply:
    return ok({"done": True})


def _object(call: Call) -> dict[str, object]:
    empty: dict[str, object] = {}
    body = json_body(call) if call.body else empty
    checked(body, fields({}, {}))
    return cast("dict[str, object]", body)


def _number(body: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{key} must be a number"
        raise TypeError(msg)
    return value


def _rule(rule: Rule) -> dict[str, object]:
    kind = next(name for name, each in KINDS.items() if each is type(rule.fault))
    when: dict[str, object] = asdict(rule.when)
    when["on"] = None if rule.when.on is None else sorted(rule.when.on)
    return {"number": rule.number, "kind": kind, "hits": rule.hits, "fault": _plain(rule.fault), "when": when}


def _plain(fault: Fault) -> dict[str, object]:
    return {name: FOR_EVER if value == math.inf else value for name, value in asdict(fault).items()}
