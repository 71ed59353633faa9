"""The HTTP server of an emulator."""
