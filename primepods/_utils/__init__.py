"""Helpers that are independent of pods."""
