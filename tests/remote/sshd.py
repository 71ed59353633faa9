"""A real OpenSSH server on loopback, run by the user who runs the tests."""

import contextlib
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from primepods import SSHTarget

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")


def reason_to_skip() -> str | None:
    """Return why no server can be run here, if so."""
    if SSHD is None or KEYGEN is None:
        return "OpenSSH's server is not installed here: apt-get install openssh-server"
    user = pwd.getpwuid(os.getuid())
    if Path(user.pw_shell).name in {"nologin", "false"}:
        return f"the user {user.pw_name} who runs the tests may not log in: its shell is {user.pw_shell}"
    return None


_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
{more}
"""


def make_key(file: Path) -> str:
    """Make a key pair, and return its public part."""
    assert KEYGEN is not None
    file.unlink(missing_ok=True)
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", file], check=True)
    return file.with_name(f"{file.name}.pub").read_text(encoding="utf-8")


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SSHServer:
    """An ssh server with a host key of its own, and one user's key that it lets in.

    Args:
        folder: For all its files, and for those of its user.
        tools: A folder with all programs that its user has.
    """

    def __init__(self, folder: Path, tools: Path | None = None) -> None:
        self.prefix = "" if tools is None else f"export PATH={tools};"
        self.folder = folder
        self.key = folder / "user_key"
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "authorized_keys").write_text(make_key(self.key), encoding="utf-8")
        make_key(folder / "host_key")
        self.target = SSHTarget(getpass.getuser(), "127.0.0.1", free_port())
        self.options = [
            "-F",
            "none",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-i",
            str(self.key),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, and wait until it listens.

        Args:
            more: Further lines of its configuration.
        """
        assert SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # Commands start in a folder of the test's, and not at home.
        command = f'{self.prefix} cd {self.home} && exec sh -c "$SSH_ORIGINAL_COMMAND"'
        lines = [f"ForceCommand {command}", *more]
        config = self.folder / "sshd_config"
        config.write_text(
            _CONFIG.format(port=self.target.port, folder=self.folder, more="\n".join(lines)), encoding="utf-8"
        )
        log = (self.folder / "sshd.log").open("ab")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdout=log, stderr=log)
        log.close()
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            assert self._process.poll() is None, (self.folder / "sshd.log").read_text(encoding="utf-8")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("sshd does not listen")

    def sessions(self) -> list[int]:
        """The processes of its connections."""
        assert self._process is not None
        return children(self._process.pid)

    def cut(self) -> None:
        """Lose all connections at once, as when the machine's network goes away."""
        for pid in self.sessions():
            for process in [pid, *children(pid)]:
                if b"sshd" in _command_line(process):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """End it, with its connections."""
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait()
            self._process = None


def children(pid: int) -> list[int]:
    """The processes that a process has started; none of one that has ended, perhaps at this moment."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in found.split()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody has asked for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
