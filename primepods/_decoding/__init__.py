"""Decoding of JSON to models."""
