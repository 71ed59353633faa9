"""Commands and files on pods."""
