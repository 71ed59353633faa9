"""Benchmarks: `python -m benchmarks` compares primepods with a floor and with other clients."""
