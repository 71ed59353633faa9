"""For the processes that tests start: without what takes long to import."""

import os
from typing import Any

import primepods


def spec_from_environment() -> primepods.PodSpec:
    """What the test that started this process wants ordered."""
    fields: dict[str, Any] = dict(pair.split("=", 1) for pair in os.environ["SPEC"].split(";"))
    return primepods.PodSpec(**{**fields, "gpu_count": int(fields["gpu_count"]), "max_price": 99.0})
