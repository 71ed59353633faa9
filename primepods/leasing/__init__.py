"""Renting pods and giving them back: leases, the files that remember them, and sweeps."""
