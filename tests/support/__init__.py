"""What several test modules need: a clock moved by hand, a server that misbehaves, a client on both."""
