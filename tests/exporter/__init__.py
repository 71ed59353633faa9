"""Prometheus metrics of an account."""
