"""The API's resources: an async class for each, with its paths, parameters and models."""
