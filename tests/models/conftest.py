"""Hypothesis waits as long as it takes."""

import tests.support.hypothesis_profile  # noqa: F401 - loads it
