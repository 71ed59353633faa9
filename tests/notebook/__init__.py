"""Waiting and watching in a notebook."""
