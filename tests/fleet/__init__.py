"""Many pods at a glance."""
