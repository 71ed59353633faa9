"""The API as a whole: who may ask, what there is to ask, and the paging that all lists share. No sockets."""

import hmac

from attrs import frozen

from .._state.account import World
from .http import Call, Refused, Reply, detail, integer
from .routes import Route, Router

PREFIX = "/api/v1"
DEFAULT_LIMIT = 100


@frozen
class Target:
    """What a request is for: the operation and its path's parameters."""

    route: Route
    params: dict[str, str]


class Api:
    """Resolves, authenticates and answers calls."""

    def __init__(self, world: World, routes: list[Route], *, api_key: str) -> None:
        self._world = world
        self._api_key = api_key
        self._router = Router(routes)

    def target(self, call: Call) -> Target | Reply:
        """Find what the call is for; a reply is what it gets if that is nothing."""
        try:
            return Target(*self._router.resolve(call))
        except Refused as refused:
            return refused.reply

    def answer(self, call: Call, target: Target) -> Reply:
        """Do what is asked and reply."""
        try:
            self.authenticate(call)
            with self._world.lock:
                return target.route.handler(call, **target.params)
        except Refused as refused:
            return refused.reply

    def authenticate(self, call: Call) -> None:
        """Let in who has the key; raises `Refused` with a 401 or 403."""
        scheme, _, token = (call.authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(detail(403, "Not authenticated"))
        if not hmac.compare_digest(token.strip().encode(errors="replace"), self._api_key.encode()):
            raise Refused(detail(401, "Invalid token", {"WWW-Authenticate": "Bearer"}))


def paging(call: Call, longest: int) -> tuple[int, int]:
    """Offset and limit of a list, clamped: the schema lets any integer in but only natural ones out."""
    offset = max(0, integer(call, "offset", 0))
    limit = max(0, integer(call, "limit", DEFAULT_LIMIT))
    return offset, min(limit, longest)
