"""Hypothesis waits as long as it takes; the official command's files are the test's own."""

from pathlib import Path

import pytest

import tests.support.hypothesis_profile  # noqa: F401 - loads it

from .resolving import Files


@pytest.fixture
def files(clean_environment: Path) -> Files:
    """The official command's files."""
    return Files(clean_environment)
