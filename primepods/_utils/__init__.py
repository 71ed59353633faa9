"""Helpers that send no requests and hold no state of a client."""
