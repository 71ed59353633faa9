"""Renting: offers, orders, creation and SSH keys."""
