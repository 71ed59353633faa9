"""Tests of the emulator: over real sockets, on a clock that is moved by hand."""
