"""The recipes of ORCHESTRATORS.md, each run with the real orchestrator."""
