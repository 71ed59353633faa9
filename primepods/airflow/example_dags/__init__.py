"""Example pipelines; the guide says how to run them against an emulator."""
