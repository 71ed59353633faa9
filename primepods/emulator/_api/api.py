"""Routing and authentication of requests to all endpoints."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial

import attrs

from .._state.account import Account, Scope
from .availability import AvailabilityApi
from .disks import DisksApi
from .http import Call, Request, Response, ResponseError, detail, refuse
from .pods import PodsApi
from .router import Route, Router
from .ssh_keys import SSHKeysApi
from .user import UserApi

PREFIX = "/api/v1"
RESOURCES = {
    "/pods": "instances",
    "/disks": "disks",
    "/availability": "availability",
    "/ssh_keys": "ssh_keys",
    "/billing": "billing",
}
"""Names of permissions in a key's scope, by path prefix.

The API's documentation of pods names only the permission Instances; the other names are not documented there.
"""


@attrs.frozen
class Target:
    """A request's operation and its handler; the operation is ``None`` if no route matches the request."""

    operation: str | None
    respond: Callable[[Call], Response]


class Api:
    def __init__(self, account: Account, *, api_key: str) -> None:
        self._account = account
        self._api_key = api_key
        self.pods: PodsApi = PodsApi(account)
        apis = (
            self.pods,
            AvailabilityApi(account),
            SSHKeysApi(account),
            DisksApi(account),
            UserApi(account),
        )
        routes = [route for api in apis for route in api.routes()]
        self.operations: list[str] = [route.name for route in routes]
        self._router = Router([attrs.evolve(route, path=PREFIX + route.path) for route in routes])

    def resolve(self, request: Request) -> Target:
        """Find the operation of a request; without one, the target responds with a redirect or an error."""
        try:
            route, params = self._router.resolve(request)
        except ResponseError as error:
            response = error.response
            return Target(operation=None, respond=lambda _call: response)
        return Target(operation=route.name, respond=partial(self._respond, route, params))

    def authenticate(self, request: Request) -> Scope:
        """Return the permissions of the request's key.

        Raises:
            ResponseError: 401 for an unknown key (documented), 403 without a key (reported).
        """
        scheme, _, token = (request.authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise refuse(403, "Not authenticated")
        everything: Scope = {name: {"read": True, "write": True} for name in RESOURCES.values()}
        for key, scope in {**self._account.scopes, self._api_key: everything}.items():
            if hmac.compare_digest(token.strip().encode(errors="replace"), key.encode()):
                return scope
        raise ResponseError(detail(401, "Invalid token", {"WWW-Authenticate": "Bearer"}))

    def _respond(self, route: Route, params: dict[str, str], request: Call) -> Response:
        path = route.path.removeprefix(PREFIX)
        name = next((name for prefix, name in RESOURCES.items() if path.startswith(prefix)), None)
        right = "read" if route.method == "GET" else "write"
        try:
            scope = self.authenticate(request)
            if name is not None and not (scope.get(name) or {}).get(right):
                raise refuse(403, f"The API key lacks the permission {name}: {right}")
            request = attrs.evolve(request, scope=scope)
            with self._account.lock:
                response: Response = route.handler(request, **params)
                return response
        except ResponseError as error:
            return error.response
