"""Sockets and HTTP: the server half of aiohttp, and what faults do to an answer on the wire."""
