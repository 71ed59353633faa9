"""Seeded runs in which almost a third of all answers go wrong, and what must hold in each of them."""
