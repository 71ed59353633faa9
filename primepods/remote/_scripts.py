"""Shell scripts that run on a pod. They need a POSIX shell; copies also need ``tar`` and ``find``.

The command line of ``ssh`` is only :data:`_BOOTSTRAP`, so that no process list shows a secret. The bootstrap
prints a mark, and then reads a script from its standard input: while the mark has not arrived, nothing has
run, and the login may be tried again.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from .._utils.arguments import check_string, check_words
from .._utils.text import quote

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# One line, since the login shell may be csh, which allows no newline in quotes. `read` consumes no byte after
# the line's end: the command's input follows the script.
# $nl is a newline: `$(...)` removes newlines at the end of the output, hence the dot.
_BOOTSTRAP: Final = (
    'printf "%s ready\\n" "$1"; printf "%s ready\\n" "$1" >&2; '
    'nl=$(printf "\\n."); nl=${nl%.}; text=; read -r n || exit 255; '
    'while [ "$n" -gt 0 ]; do IFS= read -r line || exit 255; text="$text$line$nl"; n=$((n-1)); done; '
    'eval "$text"'
)

_END: Final = """
printf '%s exit %s\\n' "$1" "$code"
printf '%s exit %s\\n' "$1" "$code" >&2
exit "$code"
"""

# Runs the command in its own process group, and kills that group when the connection ends. $group is the
# minus sign with which `kill` takes a process group, or nothing on pods without `setsid`, where only the
# child is killed.
#
# The watcher, a second process, notices the end of the connection: by the end of the script's standard input
# or, if the command reads that input, by the end of sshd's process, which is $PPID. `kill -0` also fails for
# a process of another user, so the watcher looks for $PPID in /proc, too.
#
# $1 is the mark, which _END needs. The other positional parameters are the prefix of the command: `setsid` or
# nothing. File descriptor 3 is the script's own input, and 4 is the command's. Each process closes the
# descriptors that it does not read. %s exports the variables.
_RUN: Final = """
exec 3<&0 </dev/null
if command -v setsid >/dev/null 2>&1; then group=-; set -- "$1" setsid; else group=; set -- "$1"; fi
if [ "$has_input" = 1 ]; then exec 4<&3; else exec 4</dev/null; fi
(
  shift
  set -- "$@" sh -c "$command"
  exec 3<&- <&4 4<&-
%s
  exec "$@"
) &
child=$!
exec 4<&-
(
  if [ "$has_input" = 1 ]; then
    exec 3<&-
    while kill -0 "$PPID" || [ -d "/proc/$PPID" ]; do sleep 1; done
  else
    while read -r line <&3; do :; done
  fi
  # When the child has ended, the last line sends TERM to the watcher: ignore it, since other processes of the
  # group may still be running.
  trap '' TERM
  kill -TERM "$group$child"
  n=0; while [ "$n" -lt 10 ] && kill -0 "$group$child"; do sleep 1; n=$((n+1)); done
  kill -KILL "$group$child"
) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$child"; code=$?
kill "$watcher" 2>/dev/null
"""

# Unpacks into a hidden folder, $work, from which a rename puts the copy in place. A rename cannot cross
# disks, and a target that is a folder may be a mount point: then $work is inside the target, else in $parent.
# The archive has the members `data` and, if it is complete, `end`. SIGHUP and SIGPIPE are ignored, so that a
# lost connection does not prevent the cleanup.
#
# In the small scripts of `merge`, $0 is the target. The first and the second `find` report conflicts. The
# third moves the folders that do not exist in the target, and does not descend into them. The fourth moves
# the remaining files.
_UPLOAD: Final = """
trap '' HUP PIPE
upload() {
  if [ "$kind" = file ] && [ -d "$target" ]; then parent=$target target=$target/$name; fi
  # From here on, the target of a file is the path of the file.
  if [ -d "$target" ]; then work_parent=$target; else work_parent=$parent; fi
  if [ "$kind" = folder ] && [ -e "$target" ] && [ ! -d "$target" ]; then
    say "$target is a file"; return 1
  fi
  if [ "$kind" = file ] && [ -d "$target" ]; then say "$target is a folder"; return 1; fi
  mkdir -p "$work_parent" || return
  work=$work_parent/.$1
  mkdir -m 700 "$work" || return
  tar -xpf - -C "$work" || return
  if [ ! -f "$work/end" ]; then say "the copy ended early"; return 1; fi
  if [ "$kind" = folder ] && [ -d "$target" ]; then merge; else mv -f "$work/data" "$target"; fi
}
merge() {
  cd "$work/data" || return
  case $target in /*) ;; *) target=$home/$target;; esac
  find . -type d -exec sh -c '
    for f do if [ -L "$0/$f" ] || { [ -e "$0/$f" ] && [ ! -d "$0/$f" ]; }; then
      if [ "$f" != . ]; then printf "%s is no folder there\\n" "$f" >&2; exit 1; fi
    fi; done' "$target" {} + || return
  find . ! -type d -exec sh -c '
    for f do if [ -d "$0/$f" ]; then
      printf "%s is a folder there\\n" "$f" >&2; exit 1
    fi; done' "$target" {} + || return
  find . -type d -exec sh -c '[ ! -d "$0/$1" ] && mv "$1" "$0/$1"' "$target" {} \\; -prune
  find . ! -type d -exec sh -c 'for f do mv -f "$f" "$0/$f" || exit; done' "$target" {} +
}
say() { printf '%s\\n' "$1" >&2; }
home=$PWD work=
upload "$1"; code=$?
# The archive may have folders that are not writable.
if [ -n "$work" ]; then cd "$home" && chmod -R u+rwx "$work" && rm -rf "$work"; fi 2>/dev/null
"""

# With `-h`, `tar` packs the file to which a link points.
_DOWNLOAD: Final = """
if [ -d "$target" ]; then printf 'folder\\n'; tar -cf - -C "$target" .; code=$?
elif [ -f "$target" ]; then printf 'file\\n'; tar -chf - -C "$parent" "./$name"; code=$?
else printf '%s is no file or folder\\n' "$target" >&2; code=1; fi
"""


def bootstrap(mark: str) -> str:
    """Return the command line for ``ssh``."""
    return f"exec {shlex.join(['sh', '-c', _BOOTSTRAP, 'primepods', mark])}"


def command_script(
    command: str | Sequence[str], *, env: Mapping[str, str], cwd: str | None, has_input: bool
) -> bytes:
    """Return the script that runs a command.

    Raises:
        TypeError: An argument is not a string.
        ValueError: The command is empty, or a folder or variable is invalid. The message shows no value.
    """
    line = command if isinstance(command, str) else shlex.join(check_words("command", command))
    if not line.strip():
        raise ValueError("command is empty")
    folder = "." if cwd is None else remote_path("cwd", cwd)
    lines = [
        f"command={shlex.quote(line)} has_input={int(has_input)} code=1",
        f"if cd {shlex.quote(folder)}; then",
        _RUN % _export_lines(env),
        "fi",
    ]
    return _with_length("\n".join(lines) + _END)


def upload_script(remote: str, *, kind: str, name: str) -> bytes:
    """Return the script that unpacks a ``tar`` from its standard input.

    Args:
        remote: The target.
        kind: ``"file"`` or ``"folder"``.
        name: The file's name, if the target is a folder.
    """
    return _with_length(
        f"kind={kind}\n{_path_assignments(remote, name=name if kind == 'file' else '')}\n{_UPLOAD}{_END}"
    )


def download_script(remote: str) -> bytes:
    """Return the script that packs a file or a folder.

    Raises:
        ValueError: The path is empty or contains a NUL.
    """
    bare = remote.rstrip("/") or remote[:1]  # "/" stays "/"
    return _with_length(f"{_path_assignments(bare, name='')}\n{_DOWNLOAD}{_END}")


def remote_path(name: str, path: str) -> str:
    """Return a path on the pod for use in a script, absolute or relative to the home directory.

    Raises:
        TypeError: The path is not a string.
        ValueError: The path is empty or contains a NUL.
    """
    if not check_string(name, path) or "\0" in path:
        raise ValueError(f"{name} must be a path on the pod, got {quote(path)}")
    if path == "~" or path.startswith("~/"):
        path = path[2:] or "."
    return f"./{path}" if path.startswith("-") else path


def _path_assignments(remote: str, *, name: str) -> str:
    """Return the assignments of a copy script's variables.

    Args:
        remote: The path on the pod; if it ends with a slash, the folder for an uploaded file.
        name: Name of the uploaded file; empty for a folder and for a download.
    """
    target = remote_path("remote", remote)
    if name and target.endswith("/"):
        target += name
    bare = target.rstrip("/") or "/"
    parent = posixpath.dirname(bare) or "."
    words = {"target": bare, "parent": parent, "name": name or posixpath.basename(bare)}
    return " ".join(f"{word}={shlex.quote(value)}" for word, value in words.items())


def _export_lines(env: Mapping[str, str]) -> str:
    for name, value in env.items():
        if not _VARIABLE.fullmatch(check_string("a name in env", name)):
            raise ValueError(f"env has {quote(name)}: names of variables consist of letters, digits and _")
        if not isinstance(value, str):
            raise TypeError(f"env[{name!r}] must be a string, got a {type(value).__name__}")
        if "\0" in value:
            raise ValueError(f"env[{name!r}] contains a NUL, which a variable cannot hold")
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items())


def _with_length(script: str) -> bytes:
    """Return a script after a line with its number of lines, as :data:`_BOOTSTRAP` reads them."""
    return f"{script.count(chr(10)) + 1}\n{script}\n".encode(errors="surrogateescape")
