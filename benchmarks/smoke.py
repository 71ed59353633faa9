"""Smoke test of the real API, for maintainers before a release: `python -m benchmarks.smoke`.

Needs a key in `PRIME_API_KEY`. Reads lists, statuses, history, offers and SSH keys, and prints what differs
from the package's models: unknown fields, unknown states, other types, missing fields. It prints no values
but unknown states, since values can be secret. It costs and changes nothing, unless `--rent` is given: then
it also rents the cheapest pod for at most `--max-price` an hour, waits until it is ready, and deletes it.

The exit code is 1 if something differs or fails. `.github/workflows/smoke.yml` runs it each night.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import attrs

import primepods
from primepods import Client, HistoryRecord, Offer, Pod, PodSpec, PodStatus
from primepods._decoding.objects import ALIASES, wire_names

_PODS = "/api/v1/pods"
_AVAILABILITY = "/api/v1/availability"
_PAGES = {"data", "total_count", "offset", "limit", "status"}
_ITEMS = {"items", "totalCount"}
_MAX_IDS = 100
_MAX_GETS = 3
_RENT_HOURS = 0.5


def differences(value: Any, hint: Any, path: str = "") -> Iterator[str]:
    """Yield where a JSON value differs from a type of the models.

    Numbers as strings, and numeric ids, are no difference: the API's schema has both.
    """
    choices = get_args(hint) if get_origin(hint) not in {None, tuple} else (hint,)
    problems = [list(_differences(value, each, path)) for each in choices]
    if [] not in problems:
        # The nearest choice: one that the value itself fits, if any, with the fewest problems inside.
        yield from min(problems, key=lambda found: (found[0].endswith(_kind(value)), len(found)))


def _differences(value: Any, hint: Any, path: str) -> Iterator[str]:
    if attrs.has(hint) and isinstance(value, dict):
        yield from _object_differences(value, hint, path)
    elif get_origin(hint) is tuple and isinstance(value, list):
        for each in value:
            yield from differences(each, get_args(hint)[0], f"{path}[]")
    elif isinstance(value, str) and isinstance(hint, type) and issubclass(hint, StrEnum):
        if not getattr(hint(value), "is_known", True):
            yield f"{path}: unknown {hint.__name__} {value[:40]!r}"
    elif not _fits(value, hint):
        yield f"{path}: expected {getattr(hint, '__name__', hint)}, got {_kind(value)}"


def _object_differences(value: dict[str, Any], model: Any, path: str) -> Iterator[str]:
    names, hints = wire_names(model), get_type_hints(model)
    aliases = ALIASES.get(model, {})
    for key in value.keys() - {*names.values(), *aliases.values()}:
        yield f"{path}.{key}: unknown field"
    for field in attrs.fields(model):
        name = names.get(field.name)
        if name is None:
            continue
        if name not in value:
            if field.default is attrs.NOTHING:
                yield f"{path}.{name}: missing"
        elif value[name] is not None or field.default is attrs.NOTHING:
            yield from differences(value[name], hints[field.name], f"{path}.{name}")


def _fits(value: Any, hint: Any) -> bool:
    if hint is datetime:
        hint = str
    if hint in {int, float}:
        return isinstance(value, int | float | str) and not isinstance(value, bool) and _is_number(value)
    if not isinstance(hint, type):
        return False
    kinds = (str, int, float) if hint is str else (hint,)
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def _is_number(value: float | str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _kind(value: Any) -> str:
    return "null" if isinstance(value, NoneType) else type(value).__name__


@attrs.define
class Smoke:
    """One run.

    Attributes:
        client: Sends the requests.
        failed: Whether something differed or failed.
    """

    client: Client
    failed: bool = False

    def run(self) -> None:
        """Read everything that can be read."""
        pods = self.read(f"{_PODS}/", Pod, limit=_MAX_IDS)
        ids = [row["id"] for row in pods if isinstance(row, dict) and isinstance(row.get("id"), str)]
        for pod_id in ids[:_MAX_GETS]:
            self.read(f"{_PODS}/{pod_id}", Pod, rows_key=None)
        if ids:
            self.read(f"{_PODS}/status", PodStatus, pod_ids=ids)
        self.read(f"{_PODS}/history", HistoryRecord, limit=_MAX_IDS)
        for kind, model in (("gpus", Offer), ("multi-node", Offer), ("disks", primepods.DiskOffer)):
            self.read(f"{_AVAILABILITY}/{kind}", model, rows_key="items", page_size=_MAX_IDS)
        self.read("/api/v1/ssh_keys/", primepods.SSHKey, limit=_MAX_IDS)
        self.note("availability.summary", len(self.client.availability.summary()), Counter())
        self.check_missing()

    def read(self, path: str, model: type, rows_key: str | None = "data", **params: Any) -> list[Any]:
        """Read one endpoint, report its differences, and return its rows."""
        try:
            body = self.client.request("GET", path, params=params)
        except primepods.PrimePodsError as exc:
            self.failed = True
            print(f"GET {path}: {exc}")
            return []
        found: Counter[str] = Counter()
        rows = [body]
        if rows_key is not None:
            if not isinstance(body, dict):
                body = {}
            envelope = _ITEMS if rows_key == "items" else _PAGES
            found.update(f".{key}: unknown field" for key in body.keys() - envelope)
            rows = body.get(rows_key) or []
        for row in rows:
            found.update(set(differences(row, model, f".{rows_key}[]" if rows_key else "")))
        # Without the id: the report must contain no values.
        self.note(path if rows_key else f"{_PODS}/{{id}}", len(rows), found)
        return rows

    def note(self, what: str, rows: int, found: Counter[str]) -> None:
        """Print the differences of one endpoint."""
        print(f"GET {what}: {rows} rows, {'as documented' if not found else 'DIFFERENT'}")
        for difference, count in sorted(found.items()):
            print(f"    {difference} ({count} times)")
        self.failed = self.failed or bool(found)

    def check_missing(self) -> None:
        """Report the API's response about a pod that does not exist."""
        try:
            self.client.pods.get("primepods-smoke-no-such-pod")
        except primepods.NotFoundError as exc:
            found = [] if isinstance(exc.body, dict) else ["the body of a 404 is not an object"]
            self.note(f"{_PODS}/{{id}} of no pod", 0, Counter(found))
        except primepods.PrimePodsError as exc:
            self.failed = True
            print(f"GET of a pod that does not exist: {exc}")
        else:
            self.failed = True
            print("GET of a pod that does not exist: 200")

    def rent(self, max_price: float) -> None:
        """Rent the cheapest pod, wait, read it, and give it back."""
        offers = [
            offer
            for offer in self.client.availability.gpus()
            if offer.is_available and not offer.is_spot and 0 < (offer.price_hr or 0) <= max_price
        ]
        if not offers:
            self.failed = True
            print(f"--rent: no offer for at most ${max_price:g} an hour")
            return
        offers.sort(key=lambda offer: offer.price_hr or 0)
        specs = PodSpec.from_offers(offers[:3], name="primepods-smoke")
        with self.client.pods.lease(specs, max_hours=_RENT_HOURS, on_change=print) as pod:
            print(f"ready: {pod}")
            self.read(f"{_PODS}/{pod.id}", Pod, rows_key=None)
            self.read(f"{_PODS}/status", PodStatus, pod_ids=[pod.id])
        print(f"released: {pod.id}, about {pod.spent():.2f} spent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.smoke", description="Smoke test of the real API.")
    parser.add_argument("--rent", action="store_true", help="also rent the cheapest pod; costs money")
    parser.add_argument("--max-price", type=float, default=1.0, help="per hour, for --rent; default 1")
    options = parser.parse_args(arguments)
    if not os.environ.get("PRIME_API_KEY"):
        print("Set PRIME_API_KEY to the key of the account to read.", file=sys.stderr)
        return 2
    with primepods.exit_on_sigterm(), Client() as client:
        smoke = Smoke(client)
        print(f"primepods {primepods.__version__}: {client!r}")
        smoke.run()
        if options.rent:
            smoke.rent(options.max_price)
    print("FAILED: something differs, see above" if smoke.failed else "passed")
    return int(smoke.failed)


if __name__ == "__main__":
    sys.exit(main())
