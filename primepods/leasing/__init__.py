"""Leases: pods rented for a block, the files that record them, and sweeps."""
