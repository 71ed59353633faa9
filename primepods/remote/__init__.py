"""Commands on pods and copies of files, with the system's ``ssh``."""

from ._background import BackgroundWriter
from ._exclude import Exclusion
from ._job_reader import JobLines
from ._scripts import remote_path
from .job import AsyncJob, AsyncJobOutput, job_lines, read_output
from .options import SSHOptions, host_key_settings
from .remote import AsyncRemote, check_work, measure_upload, wait_for_login
from .results import CommandResult, JobState, OnLine, OnProgress, OutputLine, UploadSize

__all__ = [
    "AsyncJob",
    "AsyncJobOutput",
    "AsyncRemote",
    "BackgroundWriter",
    "CommandResult",
    "Exclusion",
    "JobLines",
    "JobState",
    "OnLine",
    "OnProgress",
    "OutputLine",
    "SSHOptions",
    "UploadSize",
    "check_work",
    "host_key_settings",
    "job_lines",
    "measure_upload",
    "read_output",
    "remote_path",
    "wait_for_login",
]
