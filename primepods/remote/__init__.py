"""Commands on pods and copies of files, with the system's ``ssh``."""

from .options import SSHOptions
from .remote import AsyncRemote, check_work, wait_for_login
from .results import CommandResult, OnLine, OnProgress, OutputLine

__all__ = [
    "AsyncRemote",
    "CommandResult",
    "OnLine",
    "OnProgress",
    "OutputLine",
    "SSHOptions",
    "check_work",
    "wait_for_login",
]
