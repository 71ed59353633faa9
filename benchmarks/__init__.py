"""Benchmarks: `python -m benchmarks` measures primepods against a floor and against its peers."""
