"""Commands, jobs, file copies and port forwarding on pods, with the system's ``ssh``."""

from ._background import BackgroundWriter
from ._exchange import echo
from ._exclude import Exclusion
from ._job_reader import JobLines
from ._job_scripts import check_job_name
from ._place import check_target
from ._scripts import GPU_CHECK, remote_path
from ._ssh_config import (
    HostEntry,
    choose_aliases,
    config_blocks,
    find_host_alias,
    hosts_file,
    install_hosts,
    note_hosts,
    uninstall_hosts,
)
from .forward import AsyncForward
from .job import AsyncJob, AsyncJobOutput, job_lines, read_output
from .options import SSHOptions, host_key_settings, is_emulated, machine_name
from .remote import (
    AsyncRemote,
    check_work,
    download_first,
    find_nodes,
    forward_ports,
    limit_logins,
    measure_upload,
    rank_variables,
    run_check,
    wait_for_login,
)
from .results import CommandResult, JobState, OnLine, OnProgress, OutputLine, Stream, UploadSize
from .watchdog import Watchdog, end_watchdog, start_watchdog

__all__ = [
    "GPU_CHECK",
    "AsyncForward",
    "AsyncJob",
    "AsyncJobOutput",
    "AsyncRemote",
    "BackgroundWriter",
    "CommandResult",
    "Exclusion",
    "HostEntry",
    "JobLines",
    "JobState",
    "OnLine",
    "OnProgress",
    "OutputLine",
    "SSHOptions",
    "Stream",
    "UploadSize",
    "Watchdog",
    "check_job_name",
    "check_target",
    "check_work",
    "choose_aliases",
    "config_blocks",
    "download_first",
    "echo",
    "end_watchdog",
    "find_host_alias",
    "find_nodes",
    "forward_ports",
    "host_key_settings",
    "hosts_file",
    "install_hosts",
    "is_emulated",
    "job_lines",
    "limit_logins",
    "machine_name",
    "measure_upload",
    "note_hosts",
    "rank_variables",
    "read_output",
    "remote_path",
    "run_check",
    "start_watchdog",
    "uninstall_hosts",
    "wait_for_login",
]
