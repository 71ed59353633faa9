"""Commands for agents: `mcp` and `skill`."""
