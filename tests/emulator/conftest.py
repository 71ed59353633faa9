"""Fixtures for the emulator's tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from primepods.emulator import Emulator, ManualClock

from .caller import Caller

Serve = Callable[..., Caller]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an emulator on a manual clock with the given arguments; it is stopped at the end of the test."""
    with ExitStack() as stack:

        def start(**arguments: Any) -> Caller:
            if "speed" not in arguments:
                arguments.setdefault("clock", ManualClock())
            return Caller(stack.enter_context(Emulator(**arguments)))

        yield start


@pytest.fixture
def call(serve: Serve) -> Caller:
    """A caller of an emulator with ten pods that boot in about 30 seconds."""
    return serve(pods=10, seed=7, boot_seconds=30.0)
