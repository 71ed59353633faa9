"""Small helpers that know nothing of pods."""
