"""Tests of primepods."""
