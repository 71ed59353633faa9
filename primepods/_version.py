"""The version, in the one place where the build reads it too."""

__version__ = "0.1.0"
