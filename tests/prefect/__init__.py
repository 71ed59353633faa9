"""The Prefect worker: without a server, and with a real one."""
