"""Commands on pods and copies of files, with the system's ``ssh``."""

from ._login import is_key_refusal
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
    "is_key_refusal",
    "wait_for_login",
]
