"""The API's resources: one async class each, which knows paths, parameters and models."""
