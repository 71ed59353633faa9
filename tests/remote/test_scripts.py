"""Scripts as the shell of a pod reads them, without a connection: under dash, bash and BusyBox."""

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from primepods.remote._exclude import Exclusion
from primepods.remote._job_scripts import job_script, start_script
from primepods.remote._pack import Progress, pack
from primepods.remote._scripts import bootstrap, command_script, download_script, upload_script

from .conftest import busybox, immutable


@attrs.frozen
class Shell:
    """A shell as `sh`, with the programs of its kind of machine, in a home directory."""

    home: Path
    path: str

    def run(
        self, script: bytes, *, keep_open: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        """What the shell does with a script; its input may stay open until it ends."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", bootstrap("mark")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env={"PATH": self.path} | variables,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with process:
            try:
                process.stdin.write(script)
                process.stdin.flush()
            except BrokenPipeError:
                pass
            if not keep_open:
                process.stdin.close()
            out = process.stdout.read()
            return subprocess.CompletedProcess([], process.wait(60), out, process.stderr.read())

    def upload(self, source: Path, target: str) -> subprocess.CompletedProcess[bytes]:
        """What the shell does with an upload."""
        kind = "folder" if source.is_dir() else "file"
        return self.run(upload_script(target, kind=kind, name=source.name) + packed(source))

    def wrap(self, name: str, before: str = "", after: str = "") -> None:
        """Put a program before one of the machine: lines that run before it, and after it."""
        file = Path(self.path.partition(":")[0], name)
        file.unlink(missing_ok=True)
        lines = ("#!/bin/sh", before, f'{shutil.which(name)} "$@"', "code=$?", after, "exit $code", "")
        file.write_text("\n".join(lines), encoding="utf-8")
        file.chmod(0o755)


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """Each shell."""
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    if request.param == "busybox":
        return Shell(home, str(busybox(programs)))
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"{request.param} is not installed here")
    programs.mkdir()
    (programs / "sh").symlink_to(program)
    return Shell(home, f"{programs}:{os.defpath}")


def packed(source: Path) -> bytes:
    """An archive as it is sent."""
    stream = io.BytesIO()
    pack(source, Exclusion(()), Progress(), stream)
    return stream.getvalue()


def command(line: str, **env: str) -> bytes:
    """A script that runs a command line."""
    return command_script(line, env=env, cwd=None)


def test_a_script_that_was_cut_does_nothing(shell: Shell) -> None:
    """Wherever the connection is lost."""
    script = command("touch ran", A="b\nc'")
    for end in (*range(0, len(script), 97), len(script) - 1):
        shell.run(script[:end])
    assert not list(shell.home.iterdir())
    done = shell.run(script, keep_open=True)
    assert (shell.home / "ran").exists()
    assert done.stdout == b"mark ready\nmark exit 0\n"


def test_a_command_has_the_variables_of_the_image_and_no_others(shell: Shell) -> None:
    """None of the script's, also not instead of one of the image with a common name."""
    names = ["n", "text", "line", "code", "command", "nl", "group", "child", "watcher", "target", "size"]
    done = shell.run(command("set -a; env"), keep_open=True, **dict.fromkeys(names, "the image's"))
    found = dict(line.split("=", 1) for line in done.stdout.decode().splitlines()[1:-1])
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, "the image's")
    assert not [name for name in found if "primepods" in name]


def test_python_prints_each_line_at_once_unless_somebody_decides_otherwise(shell: Shell) -> None:
    """The image or the user: also with an empty value, which Python takes for none."""
    line = 'echo "<$PYTHONUNBUFFERED>"'
    assert b"<1>" in shell.run(command(line), keep_open=True).stdout
    assert b"<>" in shell.run(command(line), keep_open=True, PYTHONUNBUFFERED="").stdout
    assert b"<>" in shell.run(command(line, PYTHONUNBUFFERED=""), keep_open=True).stdout


def test_a_command_begins_when_it_has_all_of_its_input(shell: Shell, tmp_path: Path) -> None:
    """It never sees a part of it, and nothing else has a name for the file with it.

    A link of its name, which another user may have made, is not followed.
    """
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = command_script("cat; ls -A $TMPDIR", env={}, cwd=None, input_size=200_000)
    data = os.urandom(200_000)
    done = shell.run(script + data, keep_open=True, TMPDIR=str(temporary))
    assert done.stdout == b"mark ready\n" + data + b"mark exit 0\n"
    done = shell.run(script + data[:-1], TMPDIR=str(temporary))
    assert done.stdout == b"mark ready\nmark exit 1\n"
    assert b"was not received" in done.stderr
    # Where there is no such folder, the home directory takes it.
    done = shell.run(script + data, keep_open=True, TMPDIR="/nowhere")
    assert data in done.stdout
    (tmp_path / "theirs").write_text("x", encoding="utf-8")
    (temporary / "mark").symlink_to(tmp_path / "theirs")
    assert data in shell.run(script + data, keep_open=True, TMPDIR=str(temporary)).stdout
    assert (tmp_path / "theirs").read_text(encoding="utf-8") == "x"
    assert list(shell.home.iterdir()) == []


@pytest.mark.slow
def test_a_job_runs_in_every_shell(shell: Shell) -> None:
    """It begins once, with the image's variables and none of the script's; it is found, read and ended."""

    def run(script: bytes) -> str:
        done = shell.run(script, keep_open=True, n="the image's")
        assert done.stderr == b"mark ready\nmark exit 0\n"
        return done.stdout.decode().removeprefix("mark ready\n").removesuffix("mark exit 0\n")

    line = (
        "trap '' TERM; yes | head -n 3; set -a; env | grep -c primepods_; "
        'echo "$n $A $PYTHONUNBUFFERED"; touch end; sleep 60'
    )
    script = start_script(line, name="x", token=str(shell.home), env={"A": "b\nc'"}, cwd=None)
    assert (run(script), run(script)) == ("own\n", "own\n")
    while not (shell.home / "end").exists():
        assert " running " in run(job_script("find", "x"))
    assert run(start_script("false", name="x", token="u", env={}, cwd=None)).startswith("job x ")
    assert " ended " in run(job_script("stop", "x", "1"))
    output = "y\ny\n0\nthe image's b\nc' 1\n"
    found = run(job_script("follow", "x", "2", "0", ""))
    assert found.startswith(f"stdout 2 {len(output)}\n{output}job x ")


def test_a_job_that_is_stopped_keeps_its_exit_code(shell: Shell) -> None:
    """Also where recording it takes longer than SIGKILL comes."""
    shell.wrap("mv", before="case $1 in *exit*) sleep 0.4 ;; esac")
    shell.run(start_script("sleep 60", name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    done = shell.run(job_script("stop", "x", "0"), keep_open=True)
    assert re.search(rb"job x \d+ ended \d+ (137|143)\n", done.stdout)


def test_each_process_of_a_job_that_is_stopped_gets_sigterm_once(shell: Shell) -> None:
    """The signal for its group is the only one for a process in it; one in another group gets its own."""
    line = "setsid sh -c 'echo $$ >other; exec sleep 60' & until [ -s other ]; do sleep 0.05; done; sleep 60"
    shell.run(start_script(line, name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    while not (shell.home / "other").exists():
        pass
    count, _, script = job_script("stop", "x", "50").partition(b"\n")
    log = b"""kill() { echo "$@" >>kills; command kill "$@"; }\n"""
    shell.run(b"%d\n" % (int(count) + 1) + log + script, keep_open=True)
    sent = [words for words in (shell.home / "kills").read_text().splitlines() if words.startswith("-TERM")]
    group, other = ((shell.home / name).read_text().strip() for name in (".primepods/jobs/x/group", "other"))
    assert sent == [f"-TERM {group} {other}"]


@pytest.mark.parametrize(("line", "code"), [("sh save; true", 7), ("sh outer", 143)])
def test_a_job_runs_until_its_programs_have_saved(shell: Shell, line: str, code: int) -> None:
    """SIGTERM ends the shells above them at once. All see that the job runs, its last output and its code."""
    saving = (
        "trap 'until [ -e go ]; do sleep 0.05; done; echo saved; exit 7' TERM; touch begun; sleep 60 & wait"
    )
    (shell.home / "save").write_text(saving, encoding="utf-8")
    (shell.home / "outer").write_text("sh save\n", encoding="utf-8")
    shell.run(start_script(line, name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    while not (shell.home / "begun").exists():
        pass
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(shell.run, job_script("stop", "x", "300"), keep_open=True)
        while not (shell.home / ".primepods/jobs/x/stopping").exists():
            pass
        follow = pool.submit(shell.run, job_script("follow", "x", "0", "0", ""), keep_open=True)
        time.sleep(0.5)  # in which the shell of the command would end
        assert b" running " in shell.run(job_script("find", "x"), keep_open=True).stdout
        (shell.home / "go").touch()
        for done in (stopped, follow):
            assert re.search(rb"job x \d+ ended \d+ %d\n" % code, done.result().stdout)
        assert b"saved" in follow.result().stdout


def test_a_job_starts_though_its_connection_is_lost(shell: Shell) -> None:
    """SIGHUP arrives when its folder has been made."""
    shell.wrap("mkdir", after='case $1 in -m) kill -HUP "$PPID" ;; esac')
    done = shell.run(start_script("true", name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    assert done.stdout == b"mark ready\nown\nmark exit 0\n"


def test_a_process_with_the_number_of_a_job_is_not_the_job(shell: Shell) -> None:
    """A pod that was restarted gives it to another one: the job does not run for ever."""
    shell.run(start_script("sleep 60", name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    started = shell.home / ".primepods/jobs/x/started"
    pid, began_at = started.read_text(encoding="utf-8").split()
    assert b" running " in shell.run(job_script("find", "x"), keep_open=True).stdout
    started.write_text(f"{os.getpid()} {began_at}\n", encoding="utf-8")
    assert b" interrupted " in shell.run(job_script("find", "x"), keep_open=True).stdout
    started.write_text(f"{pid} {began_at}\n", encoding="utf-8")
    shell.run(job_script("stop", "x", "0"), keep_open=True)


def test_output_of_the_last_moment_is_read(shell: Shell) -> None:
    """The job writes it, and ends, after the sizes of its files were read."""
    line = "until [ -e go ]; do sleep 0.05; done; echo last"
    shell.run(start_script(line, name="x", token=str(shell.home), env={}, cwd=None), keep_open=True)
    shell.wrap("ls", after="touch go; until [ -e .primepods/jobs/x/exit-[0-9]* ]; do sleep 0.05; done")
    done = shell.run(job_script("follow", "x", "0", "0", ""), keep_open=True)
    assert done.stdout.startswith(b"mark ready\nstdout 0 5\nlast\njob x ")


def test_variables_are_the_commands_alone(shell: Shell) -> None:
    """Whatever they do to programs, the script's own still work, in a run and in a job."""
    line = 'echo "$PATH $POSIXLY_CORRECT $HOME $LD_PRELOAD"; exit 3'
    said = "/nowhere y /nowhere /nowhere.so\n"
    variables = dict.fromkeys(("PATH", "HOME", "ENV", "CDPATH"), "/nowhere")
    variables |= {"LD_PRELOAD": "/nowhere.so", "IFS": "=o1 ", "POSIXLY_CORRECT": "y"}
    done = shell.run(command(line, **variables), keep_open=True)
    assert done.stdout.decode() == f"mark ready\n{said}mark exit 3\n"
    # Only the command's shell was loaded with it.
    assert done.stderr.count(b"LD_PRELOAD") <= 1
    start = start_script(
        line, name="x", token=str(shell.home), env=variables | {"PRIMEPODS_JOB": "mine"}, cwd=None
    )
    shell.run(start, keep_open=True)
    found = shell.run(job_script("follow", "x", "0", "0", ""), keep_open=True).stdout.decode()
    assert re.search(rf"^stdout 0 {len(said)}\n{said}(.*\n)*job x \d+ ended \d+ 3\n", found, re.MULTILINE)


def test_an_upload_that_was_cut_leaves_what_was_there(shell: Shell, tmp_path: Path) -> None:
    """Wherever it ends, also between two files; neither hidden nor new folders are left."""
    (shell.home / "there").mkdir()
    (shell.home / "there" / "x").write_text("old", encoding="utf-8")
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "x").write_text("new", encoding="utf-8")
    (source / "closed").mkdir()
    (source / "closed" / "y").write_text("y", encoding="utf-8")
    (source / "closed").chmod(0o500)
    data = packed(source)
    end = data.rindex(b"end\0")
    for target in ("there", "new/deep/folder"):
        script = upload_script(target, kind="folder", name="")
        for length in {0, *range(512, end, 512)}:
            done = shell.run(script + data[:length])
            assert re.search(rb"mark exit [12]\n", done.stdout)
        done = shell.run(script + b"\0" * 1024)
        assert re.search(rb"mark exit [12]\n", done.stdout)
    assert contents(shell.home) == {"there/x": "old"}
    assert [path.name for path in shell.home.iterdir()] == ["there"]


def test_times_of_folders_are_kept(shell: Shell, tmp_path: Path) -> None:
    """Also where they have content."""
    folder = tmp_path / "source" / "sub"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    os.utime(folder, (1_000, 1_000))
    os.utime(folder.parent, (2_000, 2_000))
    assert shell.upload(folder.parent, "a/b").returncode == 0
    times = [int((shell.home / "a" / "b" / name).stat().st_mtime) for name in ("sub", ".")]
    assert times == [1_000, 2_000]


def test_a_merge_that_fails_halfway_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    """Files that were replaced are as before, new ones are gone again, and the pod says why."""
    source, target = tmp_path / "source", shell.home / "target"
    for number in range(5):
        for path in (
            target / f"{number}/both",
            source / f"{number}/both",
            source / f"{number}/new/x",
            source / f"{number}x",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path), encoding="utf-8")
    before = contents(target)
    with immutable(target / "3" / "both"):
        done = shell.upload(source, "target")
    assert done.returncode != 0
    assert b"3/both" in done.stderr
    assert contents(target) == before
    with immutable(target / "3"):
        assert shell.upload(source, "target").returncode != 0
    assert contents(target) == before
    assert shell.upload(source, "target").returncode == 0
    assert (target / "3" / "both").read_text(encoding="utf-8") == str(source / "3" / "both")
    assert [path.name for path in shell.home.iterdir()] == ["target"]


@pytest.mark.parametrize("mount", [lambda path: path, lambda path: path.parent], ids=["inside", "itself"])
def test_no_copy_crosses_to_another_disk(shell: Shell, tmp_path: Path, mount: Callable[[Path], Path]) -> None:
    """`mv` would copy there, and leave a part of a file on a full disk; a mounted target itself is fine."""
    target = shell.home / "target" / "sub"
    target.mkdir(parents=True)
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x").write_text("x" * 100_000, encoding="utf-8")
    disk = mount(target)
    if subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "none", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("only the superuser can mount disks")
    try:
        target.mkdir(exist_ok=True)
        done = shell.upload(source, "target")
        assert (done.returncode == 0) is (disk != target), done.stderr
        assert (target / "x").exists() is (disk != target)
    finally:
        subprocess.run(["/bin/umount", disk], check=True)


def test_a_file_is_unpacked_in_the_folder_that_it_goes_to(shell: Shell, tmp_path: Path) -> None:
    """Under the name that was given; names may look like options, patterns or escapes, and hold newlines."""
    source = tmp_path / "source"
    for name in ("-rf", "a\\101", "*", "new\nline\n", "end"):
        (source.parent / "made").mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_text(name, encoding="utf-8")
        (shell.home / "into").mkdir(exist_ok=True)
        for target in ("into", name):
            done = shell.upload(tmp_path / "made" / name, target)
            assert done.returncode == 0, done.stderr
        assert (shell.home / "into" / name).read_text(encoding="utf-8") == name
        assert (shell.home / name).read_text(encoding="utf-8") == name


def test_a_download_is_the_file_of_that_name(shell: Shell) -> None:
    """GNU's tar would take a backslash and digits for a letter, and options from the environment."""
    (shell.home / "x").mkdir()
    for name in ("A", "\\101"):
        (shell.home / "x" / name).write_text(name, encoding="utf-8")
    done = shell.run(download_script("x/\\101"), TAR_OPTIONS="--exclude=*")
    kind, data = done.stdout.removeprefix(b"mark ready\n").split(b"\n", 1)
    assert kind == b"file"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        [member] = archive
        content = archive.extractfile(member)
        assert content is not None
        assert content.read() == b"\\101"


@pytest.mark.parametrize("kind", ["file", "folder", "rounded"])
def test_what_a_command_has_made_comes(shell: Shell, kind: str) -> None:
    """Also a new link to what is older, times in whole seconds, and without GNU's tar."""
    began, made = shell.home / "began", shell.home / "made"
    began.touch()
    if kind == "rounded":
        made.touch()
        os.utime(began, ns=(0, made.stat().st_ctime_ns + 1))
        shell.wrap("stat", "echo 2026-01-01 00:00:00.000000000 +0000; exit")
    else:
        made.symlink_to(__file__ if kind == "file" else Path(__file__).parent)
    done = shell.run(download_script("made", since="began"))
    assert done.returncode == 0, done.stderr
    name = "." if kind == "folder" else "./made"
    with tarfile.open(fileobj=io.BytesIO(done.stdout.split(b"\n", 2)[2])) as archive:
        assert archive.getnames()[0] == name
        assert all(member.isfile() for member in archive if member.name.endswith(("made", ".py")))


def test_messages_of_tar_are_in_english(shell: Shell) -> None:
    """Whatever the language of the image: the client knows the one about a file that grew."""
    (shell.home / "folder").mkdir()
    programs = Path(shell.path.partition(":")[0])
    (programs / "tar").unlink(missing_ok=True)
    (programs / "tar").write_text('#!/bin/sh\necho "in $LC_ALL" >&2\n', encoding="utf-8")
    (programs / "tar").chmod(0o755)
    done = shell.run(download_script("folder"), LC_ALL="C.UTF-8")
    assert done.stderr == b"mark ready\nin C\nmark exit 0\n"


def test_a_file_without_a_size_is_not_sent_empty(shell: Shell) -> None:
    """Such as those of /proc; a file that is empty is sent."""
    done = shell.run(download_script("/proc/version"))
    assert b"has no known size" in done.stderr
    assert done.stdout == b"mark ready\nmark exit 1\n"
    (shell.home / "empty").touch()
    assert shell.run(download_script("empty")).returncode == 0


def contents(folder: Path) -> dict[str, str]:
    """All files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}
