"""Requests and responses without a socket."""
