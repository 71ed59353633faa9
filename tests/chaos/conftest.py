"""Which of the chaos tests run."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that is used here alone."""
    config.addinivalue_line("markers", "endurance: left out unless slow tests are asked for with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the twenty thousand unless slow tests are asked for: ``pytest tests/chaos -m slow``."""
    if config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("endurance")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
