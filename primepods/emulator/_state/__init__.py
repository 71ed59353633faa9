"""State of the emulated account: pods, market, funds, and their changes over time."""
