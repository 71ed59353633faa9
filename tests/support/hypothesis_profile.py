"""Hypothesis without its stopwatch: a machine that does other things besides is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
# With `--hypothesis-profile thorough`, as CI runs the pager's.
settings.register_profile("thorough", settings.get_profile("patient"), max_examples=200)
settings.load_profile("patient")
