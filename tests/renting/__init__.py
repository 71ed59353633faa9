"""Orders of pods, and leases: what is sent, what proves what, and that no pod is left."""
