"""Decoding of response bytes to models, in processor time; never the same bytes twice in a row."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

from primepods import Pod
from primepods._decoding.pods import decode_statuses
from primepods._decoding.rows import decode_page
from primepods._utils.strict_json import loads

from .bench import Bench, is_installed
from .clients import BATCH_SIZE, batches
from .fleet import pod_ids
from .measure import Job, Row, Target, interleave

Decode = Callable[[bytes], object]


def decoding(bench: Bench) -> Iterator[Row]:
    """Measure status rows and pods, against pydantic with the official client's models."""
    page = f"{bench.server.urls[0.0]}/api/v1/pods"
    bench.server.set_list(0, bench.pods)
    queries = ["/status?pod_ids=" + "&pod_ids=".join(batch) for batch in batches(pod_ids(0, bench.pods))]
    offsets = range(0, bench.pods, BATCH_SIZE)
    for what, bodies, ours in (
        ("status rows", [_read(page + query) for query in queries], _our_statuses),
        ("pods", [_read(f"{page}/?offset={at}&limit={BATCH_SIZE}") for at in offsets], _our_pods),
    ):
        decoders: dict[str, Decode] = {"ours": ours, "parsing alone, untyped": loads}
        if is_installed("prime_cli"):
            decoders |= _their_statuses() if what == "status rows" else _their_pods()
        jobs = {name: _job(decode, bodies) for name, decode in decoders.items()}
        got = interleave(jobs, repetitions=2 * bench.repetitions)
        for name in list(decoders)[1:]:
            yield Row(
                key=f"decoding {what}, {name}",
                what=f"decoding 100 {what} from bytes",
                ours=got["ours"],
                other=got[name],
                against=name,
                target=Target(1.2) if name.startswith("pydantic") else None,
            )


def _our_statuses(body: bytes) -> object:
    return decode_statuses(loads(body))


def _our_pods(body: bytes) -> object:
    return decode_page(loads(body), Pod, 0, BATCH_SIZE)


def _their_statuses() -> dict[str, Decode]:
    model: Any = importlib.import_module("prime_cli.api.pods").PodStatus
    rows = list.__class_getitem__(model)
    whole: Any = importlib.import_module("pydantic").create_model("StatusList", data=(rows, ...))
    row = model.model_validate
    return {
        "pydantic v2 on the bytes": whole.model_validate_json,
        "the official client's own way": lambda body: [row(each) for each in json.loads(body)["data"]],
    }


def _their_pods() -> dict[str, Decode]:
    whole = importlib.import_module("prime_cli.api.pods").PodList
    return {
        "pydantic v2 on the bytes": whole.model_validate_json,
        "the official client's own way": lambda body: whole.model_validate(json.loads(body)),
    }


def _job(decode: Decode, bodies: list[bytes]) -> Job:
    def job() -> float:
        started_at = time.thread_time()
        for body in bodies:
            decode(body)
        return (time.thread_time() - started_at) / len(bodies)

    return job


def _read(url: str) -> bytes:
    with urlopen(url) as response:
        body: bytes = response.read()
        return body
