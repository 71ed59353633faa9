"""Pictures, read as XML."""
