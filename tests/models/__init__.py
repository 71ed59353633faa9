"""Models: what they say, and as JSON, text and tables."""
