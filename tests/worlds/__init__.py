"""Simulated worlds: the package, its emulator and aiohttp on virtual time, one interleaving per seed."""
