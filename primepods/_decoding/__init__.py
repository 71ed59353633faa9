"""Decoded JSON in, models out."""
