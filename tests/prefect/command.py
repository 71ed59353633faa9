"""Runs a command of Prefect's in a fork: `python -m tests.prefect.command WORD…`."""

from prefect.cli import app
from prefect.context import get_settings_context, use_profile

if __name__ == "__main__":
    # The settings that have been read are those of the fork server.
    with use_profile(get_settings_context().profile, include_current_context=False):
        app()
