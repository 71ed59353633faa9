"""Commands on pods and copies of files, with the system's ``ssh``."""

from ._background import BackgroundWriter
from ._exchange import echo
from ._exclude import Exclusion
from ._job_reader import JobLines
from ._scripts import remote_path
from .job import AsyncJob, AsyncJobOutput, job_lines, read_output
from .options import SSHOptions, host_key_settings, machine_name
from .remote import AsyncRemote, check_work, find_nodes, measure_upload, rank_variables, wait_for_login
from .results import CommandResult, JobState, OnLine, OnProgress, OutputLine, Stream, UploadSize

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
    "Stream",
    "UploadSize",
    "check_work",
    "echo",
    "find_nodes",
    "host_key_settings",
    "job_lines",
    "machine_name",
    "measure_upload",
    "rank_variables",
    "read_output",
    "remote_path",
    "wait_for_login",
]
