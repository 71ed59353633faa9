"""Pods as ssh hosts, in our file ``~/.ssh/primepods_config``, which ``~/.ssh/config`` includes.

Our file has one comment with data for each pod, and the ``Host`` blocks made from these data. Only
``install_hosts`` creates it. Functions that read or write files block; ``note_hosts`` can use a thread.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final

import attrs

from .._utils.arguments import check_strings
from .._utils.files import locked_file
from .._utils.text import quote
from ..errors import ConfigError
from ..models import Pod
from ..ssh import SSHTarget
from ._host_keys import ensure_known_hosts, host_key_settings, machine_name

_LOCK_ATTEMPTS: Final = 500
"""Max attempts, with pauses of 20 ms: ten seconds in all."""
_SPECIAL_IN_INCLUDE: Final = re.compile(r"[\"\\%$*?\[\]\x00-\x1f]")
_HEADER: Final = "# Made by primepods: changes are lost. Remove it with `primepods ssh-config --uninstall`.\n"
_CREATED: Final = "# The file config was made by primepods.\n"
_DATA: Final = "# primepods: "
_KEYS: Final = "# Host keys: "
_SHORT_ID: Final = 8
_ALIAS: Final = re.compile(r"pod_[A-Za-z0-9_][A-Za-z0-9_.-]*")

_notes: deque[tuple[tuple[HostEntry, ...], frozenset[str]]] = deque(maxlen=10_000)
"""Changes that are not in our file yet."""

_log = logging.getLogger("primepods.remote")


@attrs.frozen
class HostEntry:
    """Data of a pod for our file.

    Attributes:
        pod_id: The pod's id.
        name: The pod's name; empty if it has none.
        nodes: SSH target of each node; ``None`` for a node without an address.
    """

    pod_id: str
    name: str
    nodes: tuple[SSHTarget | None, ...]

    @classmethod
    def of(cls, pod: Pod) -> HostEntry:
        return cls(pod.id, pod.name or "", tuple(node.ssh for node in pod.nodes))

    @classmethod
    def parse(cls, line: str) -> HostEntry:
        """Return the entry of a comment in our file.

        Raises:
            ValueError, TypeError: The line is not an entry.
        """
        pod_id, name, nodes = json.loads(line.removeprefix(_DATA))
        check_strings("id and name", (pod_id, name))
        return cls(pod_id, name, tuple(None if node is None else SSHTarget(*node) for node in nodes))

    def __str__(self) -> str:
        nodes = [None if node is None else attrs.astuple(node) for node in self.nodes]
        return f"{_DATA}{json.dumps([self.pod_id, self.name, nodes])}\n"

    def aliases(self, text: str) -> list[str]:
        """Return an alias for each node, made from ``text``: the pod's name, its id or the prefix of its id.

        The prefix ``pod_`` keeps a pod named ``github.com`` from replacing that host: host names on the
        internet have no underscore.
        """
        if len(self.nodes) == 1:
            return [f"pod_{text}"]
        return [f"pod_{text}-{number}" for number in range(len(self.nodes))]


def hosts_file() -> Path:
    """Return the path of our file.

    Raises:
        ConfigError: There is no home directory.
    """
    try:
        return Path.home() / ".ssh" / "primepods_config"
    except RuntimeError:
        raise ConfigError("There is no home directory for ~/.ssh/config: set HOME.") from None


def choose_aliases(entries: Iterable[HostEntry]) -> dict[str, list[tuple[str, ...]]]:
    """Return the aliases of each pod's nodes, by the pod's id.

    One alias is made from the pod's name, or else from its id, and another one from the id's prefix. A name
    or a prefix is not used if it is invalid, or if another pod has the same alias. A pod without a valid
    alias is left out.
    """
    groups = {
        entry.pod_id: [entry.aliases(text) for text in (entry.name, entry.pod_id, entry.pod_id[:_SHORT_ID])]
        for entry in entries
    }
    # The set counts a pod once, even if its name equals its id.
    counts = Counter(alias for names in groups.values() for alias in set(chain(*names)))
    chosen: dict[str, list[tuple[str, ...]]] = {}
    for pod_id, (by_name, by_id, by_prefix) in groups.items():
        valid = [names for names in (by_name, by_id, by_prefix) if all(map(_ALIAS.fullmatch, names))]
        unique = [names for names in valid if names is by_id or all(counts[alias] == 1 for alias in names)]
        if unique:
            kept = [unique[0], *(names for names in unique if names is by_prefix)]
            chosen[pod_id] = [tuple(dict.fromkeys(names)) for names in zip(*kept, strict=True)]
    return chosen


def config_blocks(entries: Iterable[HostEntry]) -> str:
    """Return a ``Host`` block for each node with an alias and an address.

    The blocks make ssh use the same stored host keys as ``primepods exec``.

    Raises:
        ConfigError: The host keys cannot be stored.
    """
    entries = list(entries)
    chosen = choose_aliases(entries)
    blocks: list[str] = []
    for entry in entries:
        for number, names in enumerate(chosen.get(entry.pod_id, ())):
            if (target := entry.nodes[number]) is not None:
                block = target.config_block(names[0]).replace(names[0], " ".join(names), 1)
                settings = host_key_settings(machine_name(entry.pod_id, number))
                blocks.append(block + "".join(f"    {name} {value}\n" for name, value in settings.items()))
    return "\n".join(blocks)


def install_hosts(entries: Iterable[HostEntry]) -> None:
    """Replace our file with one for these pods, and add the ``Include`` line if it is missing.

    Raises:
        ConfigError: A file cannot be written or locked, or ssh cannot include the path of our file.
        OSError, UnicodeDecodeError: A file cannot be read.
    """
    with _locked():
        own, line = hosts_file(), _include_pattern()
        user = _user_file()
        text = user.read_bytes() if user.exists() else None
        is_created = text is None or (own.exists() and _CREATED in own.read_text(encoding="utf-8"))
        _write_own(entries, is_created=is_created)
        if not line.search(text or b""):
            # Put the line first, since ssh takes the first value of each option.
            _replace(user, _include_line() + (text or b""))


def uninstall_hosts() -> None:
    """Remove our file and the ``Include`` line; delete ``config`` if we created it and it is empty now.

    Raises:
        ConfigError: A file cannot be written or locked, or ssh cannot include the path of our file.
        OSError, UnicodeDecodeError: A file cannot be read or deleted.
    """
    if not hosts_file().parent.exists():
        return
    with _locked():
        own, user = hosts_file(), _user_file()
        is_created = own.exists() and _CREATED in own.read_text(encoding="utf-8")
        if user.exists():
            text = user.read_bytes()
            rest = _include_pattern().sub(b"", text, count=1)
            if not rest and is_created:
                user.unlink()
            elif rest != text:
                _replace(user, rest)
        own.unlink(missing_ok=True)
        _lock_path().unlink(missing_ok=True)


def note_hosts(
    added: Iterable[HostEntry] = (), removed: Iterable[str] = (), *, in_thread: bool = False
) -> None:
    """Update the pods in our file, if it exists. Changes apply in the order of the calls.

    Errors of reading and writing our file are logged, not raised; all pending changes are lost then.

    Args:
        added: Pods that are ready. Those without an address are ignored.
        removed: Ids of pods that are gone.
        in_thread: Whether to write in a thread, so that an event loop does not wait for the lock.
    """
    try:
        if not hosts_file().exists():
            return
    except (OSError, ConfigError):  # a folder that cannot be read; no home directory
        return
    _notes.append((tuple(added), frozenset(removed)))
    if not in_thread:
        _apply_notes()
        return
    # Not a daemon thread, so that the interpreter's exit waits for it. During the exit, no thread can be
    # started, and the change is lost.
    with suppress(RuntimeError):
        threading.Thread(target=_apply_notes, name="primepods-hosts").start()


def _apply_notes() -> None:
    try:
        with _locked():
            text = hosts_file().read_text(encoding="utf-8")
            entries = _parse(text)
            changed = dict(entries)
            # Apply all pending changes in order, including those of other threads.
            while _notes:
                added, removed = _notes.popleft()
                changed |= {entry.pod_id: entry for entry in added if any(entry.nodes)}
                changed = {pod_id: entry for pod_id, entry in changed.items() if pod_id not in removed}
            # Do not change a file that was made with another state folder, for example an emulator's.
            if changed != entries and _keys_line() in text:
                _write_own(changed.values(), is_created=_CREATED in text)
    except (OSError, UnicodeDecodeError, ConfigError) as exc:
        _notes.clear()
        _log.warning("~/.ssh/primepods_config is unchanged (see `primepods ssh-config --install`): %s", exc)


def find_host_alias(pod_id: str, node: int) -> str | None:
    """Return the first alias of a node in our file; ``None`` if the pod has no alias there.

    Raises:
        OSError, UnicodeDecodeError: The file cannot be read.
        ConfigError: There is no home directory.
    """
    aliases = choose_aliases(_parse(hosts_file().read_text(encoding="utf-8")).values())
    # Another process may have written fewer nodes.
    return next((names[0] for names in aliases.get(pod_id, ())[node:]), None)


def _parse(text: str) -> dict[str, HostEntry]:
    """Return the entries in our file, by id; ignore lines that cannot be parsed."""
    entries: dict[str, HostEntry] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            if line.startswith(_DATA):
                entry = HostEntry.parse(line)
                entries[entry.pod_id] = entry
    return entries


def _write_own(entries: Iterable[HostEntry], *, is_created: bool) -> None:
    entries = list(entries)
    comments = "".join(map(str, entries))
    text = _HEADER + _keys_line() + (_CREATED if is_created else "") + comments + config_blocks(entries)
    _replace(hosts_file(), text.encode(errors="replace"))


def _lock_path() -> Path:
    return hosts_file().with_name("primepods_config.lock")


def _keys_line() -> str:
    return f"{_KEYS}{ensure_known_hosts()}\n"


def _include_pattern() -> re.Pattern[bytes]:
    # The last line of the user's file may lack a newline, and an editor may have changed the newlines.
    return re.compile(rb"^" + re.escape(_include_line().rstrip()) + rb"\r?(?:\n|\Z)", re.MULTILINE)


def _include_line() -> bytes:
    path = hosts_file().as_posix()
    if _SPECIAL_IN_INCLUDE.search(path):
        raise ConfigError(f"ssh cannot include {quote(path)}: the path has a special character.")
    return f'Include "{path}"\n'.encode()


def _user_file() -> Path:
    return hosts_file().with_name("config").resolve()


def _replace(path: Path, data: bytes) -> None:
    """Replace a file's content atomically; keep its mode."""
    draft = path.with_name(f"{path.name}.primepods-{os.getpid()}")
    try:
        # ssh refuses a file that others can write.
        mode = path.stat().st_mode & 0o755 if path.exists() else 0o600
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except OSError as exc:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {exc.strerror}. Nothing was changed in it.") from None


@contextmanager
def _locked() -> Generator[None]:
    """Hold our lock during the block, so that no other process of primepods changes the files.

    On Windows, nothing is locked.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(_lock_path(), attempts=_LOCK_ATTEMPTS))
        except BlockingIOError:
            raise ConfigError("Another process is changing ~/.ssh/config. Try again.") from None
        except OSError as exc:
            raise ConfigError(
                f"{_lock_path()} cannot be opened or locked: {exc.strerror}. Check the owner of ~/.ssh and "
                "of this file, and whether its file system has locks."
            ) from None
        yield
