"""HTTP: requests, attempts, retries, deadlines and the connections."""
