"""Hypothesis without its stopwatch: a machine that does other things besides is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
