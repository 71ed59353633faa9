"""Waiting for pods and watching them."""
