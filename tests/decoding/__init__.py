"""Tests of decoding: bytes to JSON, JSON to models."""
