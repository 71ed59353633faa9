"""The official command's files are the test's own."""

from pathlib import Path

import pytest

from .resolving import Files


@pytest.fixture
def files(clean_environment: Path) -> Files:
    """The official command's files."""
    return Files(clean_environment)
