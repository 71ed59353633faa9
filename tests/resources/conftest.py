"""Leases write their files into a folder of the test's own."""

from tests.renting.conftest import folder

__all__ = ["folder"]
