"""Commands and files on a pod, by the system's ``ssh``."""

from .options import SSHOptions
from .remote import AsyncRemote, wait_for_login
from .results import CommandResult, OnLine, OnProgress, OutputLine

__all__ = [
    "AsyncRemote",
    "CommandResult",
    "OnLine",
    "OnProgress",
    "OutputLine",
    "SSHOptions",
    "wait_for_login",
]
