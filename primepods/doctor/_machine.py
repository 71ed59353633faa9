"""Checks of this machine: versions, ssh, and the folder of lease files."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from .._version import __version__
from ..config import Settings, default_ssh_command, environment_without_key, lease_folder
from ..errors import ConfigError
from ..leasing.ledger import probe_folder
from ._check import Check, failure, ok, warning

_PACKAGES: Final = ("aiohttp", "anyio", "attrs", "cattrs", "orjson", "rich", "typer")
_SSH_TIMEOUT: Final = 5.0
_ADD_KEY: Final = (
    "Make a key with `ssh-keygen -t ed25519`, and add it to the account with "
    "`primepods ssh-keys add FILE NAME`."
)


def check_versions() -> Check:
    """Report the versions of this package, Python, the dependencies that are installed, and the system."""
    versions = {"primepods": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    installed = ", ".join(f"{name} {found}" for name, found in versions.items())
    return ok("versions", f"{installed}; {platform.system()} {platform.machine()}")


async def check_ssh(account_keys: frozenset[str] | None) -> Check:
    """Check that ``ssh`` is installed, and that the account has a key of this machine.

    Args:
        account_keys: The account's public keys, without comments; ``None`` if they are unknown.
    """
    if default_ssh_command() != "ssh":
        # The command may hold a password, and reports are shown to others.
        return ok("ssh", "PRIMEPODS_SSH_COMMAND is set; its keys are not checked")
    if shutil.which("ssh") is None:
        return warning("ssh", "not installed", "Install OpenSSH, to log in to pods and copy files.")
    program = await asyncio.to_thread(_run, "ssh", "-V") or "ssh -V fails"
    agent_keys = _public_keys(await asyncio.to_thread(_run, "ssh-add", "-L"), "the agent")
    place_of_key = _key_files() | agent_keys
    if not place_of_key:
        return warning("ssh", f"{program}; no key in ~/.ssh or the agent", _ADD_KEY)
    places = ", ".join(sorted(set(place_of_key.values())))
    if account_keys is None:
        remedy = "Let the API key read the account's SSH keys: see permissions."
        return warning("ssh", f"{program}; {places}; the account's keys are unknown", remedy)
    shared_places = sorted({place for key, place in place_of_key.items() if key in account_keys})
    if shared_places:
        return ok("ssh", f"{program}; the account has the key of {', '.join(shared_places)}")
    return warning("ssh", f"{program}; the account has none of the keys of {places}", _ADD_KEY)


def _run(*command: str) -> str:
    """Return the stdout of a command, or else its stderr; empty if it cannot be run or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - constants
            command,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_SSH_TIMEOUT,
            env=environment_without_key(),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip()


def _key_files() -> dict[str, str]:
    """Return the names of the files in ``~/.ssh`` by public key; skip unreadable files."""
    keys: dict[str, str] = {}
    with suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        for file in sorted((Path.home() / ".ssh").glob("*.pub")):
            with suppress(OSError):
                keys |= _public_keys(file.read_text(encoding="utf-8", errors="replace"), file.name)
    return keys


def _public_keys(text: str, place: str) -> dict[str, str]:
    """Return the public keys in ``text``, without comments, with ``place`` as their value."""
    keys = [line.split()[:2] for line in text.splitlines() if line.startswith(("ssh-", "ecdsa-", "sk-"))]
    return {" ".join(key): place for key in keys}


def check_folder(settings: Settings | None) -> Check:
    """Check that the folder of lease files can be written and has locks; without settings, do not test it."""
    name = "lease folder"
    try:
        folder = lease_folder()
        if settings is None:
            return ok(name, f"{folder}; not tried without settings")
        has_locks = probe_folder(folder, settings)
    except ConfigError as exc:
        return failure(name, str(exc), "Without this folder, pods cannot be leased.")
    if has_locks:
        return ok(name, f"{folder} can be written, and locks work")
    remedy = "Sweeps cannot check whether a process still runs: set PRIMEPODS_STATE_DIR to a local folder."
    return warning(name, f"{folder} can be written, but its file system has no locks", remedy)
