"""Requests in, data or errors out: attempts, retries, deadlines, and the wire itself."""
