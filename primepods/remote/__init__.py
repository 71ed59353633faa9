"""Commands on pods and copies of files, with the system's ``ssh``."""

from ._background import BackgroundWriter
from ._exclude import Exclusion
from ._scripts import remote_path
from .options import SSHOptions, host_key_settings
from .remote import AsyncRemote, check_work, measure_upload, wait_for_login
from .results import CommandResult, OnLine, OnProgress, OutputLine, UploadSize

__all__ = [
    "AsyncRemote",
    "BackgroundWriter",
    "CommandResult",
    "Exclusion",
    "OnLine",
    "OnProgress",
    "OutputLine",
    "SSHOptions",
    "UploadSize",
    "check_work",
    "host_key_settings",
    "measure_upload",
    "remote_path",
    "wait_for_login",
]
