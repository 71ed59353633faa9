"""Routing of requests to operations, with the API's redirects and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import attrs

from .http import Request, Response, ResponseError, detail, refuse

Handler = Callable[..., Any]
"""Function of the request and, as keyword arguments, the path's parameters."""


@attrs.frozen
class Route:
    """An operation of the API, or a control route."""

    name: str
    """Name of the operation in fault plans."""
    method: str
    path: str
    """A segment in braces matches any segment that is not empty."""
    handler: Handler

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """Return the parameters of a path that matches this route, else ``None``."""
        pattern = self.path.split("/")
        if len(parts) != len(pattern):
            return None
        params: dict[str, str] = {}
        for segment, part in zip(pattern, parts, strict=True):
            if segment.startswith("{") and part:
                params[segment[1:-1]] = part
            elif segment != part:
                return None
        return params


class Router:
    """Table of routes; the first match wins, so literal paths must precede parameters."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes

    def resolve(self, request: Request) -> tuple[Route, dict[str, str]]:
        """Return the route of a request and the path's parameters, or raise a 307, a 404 or a 405."""
        matches = self._matches(request.path)
        for route, params in matches:
            if route.method == request.method:
                return route, params
        if matches:
            allow = ", ".join(sorted({route.method for route, _ in matches}))
            raise ResponseError(detail(405, "Method Not Allowed", {"Allow": allow}))
        other_spelling = request.path[:-1] if request.path.endswith("/") else request.path + "/"
        if self._matches(other_spelling):
            raise ResponseError(_redirect(request, other_spelling))
        raise refuse(404, "Not Found")

    def _matches(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        parts = [unquote(part) for part in path.split("/")]
        found = ((route, route.match(parts)) for route in self._routes)
        return [(route, params) for route, params in found if params is not None]


def _redirect(request: Request, path: str) -> Response:
    """Return a 307 to ``path`` on the host of the request, since clients drop the key if the host changes."""
    target = f"{path}?{request.raw_query}" if request.raw_query else path
    location = f"http://{request.host}{target}" if request.host else target
    return detail(307, "Temporary Redirect", {"Location": location})
