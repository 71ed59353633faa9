"""Commands that log in to pods."""
