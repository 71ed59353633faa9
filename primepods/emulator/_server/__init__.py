"""Sockets and HTTP: the aiohttp server, and faults on the wire."""
