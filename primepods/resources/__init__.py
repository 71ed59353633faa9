"""Async classes of the API's resources, and the orders, deletions and pages behind them."""
