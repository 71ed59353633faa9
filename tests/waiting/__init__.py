"""Waiting and watching, on a clock moved by hand and over a real socket."""
