"""`primepods ssh-config`: pods in ssh's configuration, as ssh reads it."""

import fcntl
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import primepods
from primepods.emulator import Edit, Emulator
from primepods.remote import HostEntry, find_host_alias, install_hosts, note_hosts
from tests.cli.conftest import Run
from tests.support.eventually import wait_for

LOGIN = "root@192.0.2.7"
LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
THEIRS = b"# mine\r\nHost *\n  User me\n\nHost pod_x\n"


@pytest.fixture(autouse=True)
def reachable(emulator: Emulator) -> str:
    """A pod whose address is known."""
    return emulator.add_pod(
        id="there-0123456789", name="there", pod_fields={"sshConnection": f"{LOGIN} -p 22", "ip": "192.0.2.7"}
    )


@pytest.fixture
def config() -> Path:
    """The user's configuration of ssh."""
    file = Path.home() / ".ssh" / "config"
    file.parent.mkdir(mode=0o700)
    file.write_bytes(THEIRS)
    return file


def ssh_reads(config: Path, host: str) -> dict[str, str]:
    """What ssh itself makes of a host."""
    program = shutil.which("ssh")
    assert program is not None
    done = subprocess.run([program, "-G", "-F", config, host], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_ssh_reads_what_install_writes(run: Run, config: Path) -> None:
    """By name and by the beginning of the id; our entry wins; uninstall leaves not a byte changed."""
    config.chmod(0o640)
    result = run("ssh-config", "--install")
    assert result.exit_code == 0, result.stderr
    assert "pod_there\n" in result.stdout
    for host in ("pod_there", "pod_there-01"):
        found = ssh_reads(config, host)
        assert (found["hostname"], found["user"], found["port"]) == ("192.0.2.7", "root", "22")
        assert found["hostkeyalias"] == "there-0123456789"
        assert found["userknownhostsfile"].endswith("known_hosts")
    assert ssh_reads(config, "elsewhere")["user"] == "me"
    assert [find_host_alias("there-0123456789", node) for node in (0, 1)] == ["pod_there", None]
    own = config.with_name("primepods_config")
    assert own.stat().st_mode & 0o777 == 0o600
    assert run("ssh-config", "--install").exit_code == 0
    assert config.read_bytes() == f'Include "{own}"\n'.encode() + THEIRS
    assert config.stat().st_mode & 0o777 == 0o640
    assert run("ssh-config", "--uninstall").exit_code == 0
    assert (config.read_bytes(), own.exists()) == (THEIRS, False)
    for text in (THEIRS + f'Include "{own}"'.encode(), f'Include "{own}"\r\n'.encode() + THEIRS):
        config.write_bytes(text)
        assert run("ssh-config", "--install").exit_code == 0
        assert config.read_bytes() == text
        assert run("ssh-config", "--uninstall").exit_code == 0
        assert config.read_bytes() == THEIRS


def test_a_config_that_was_not_there_is_gone_afterwards(run: Run) -> None:
    """So is nothing but our own files; uninstall may be repeated, and makes no folder."""
    folder = Path.home() / ".ssh"
    assert run("ssh-config", "--uninstall").exit_code == 0
    assert not folder.exists()
    assert run("ssh-config", "--install").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"config", "primepods_config", "primepods_config.lock"}
    for _ in range(2):
        assert run("ssh-config", "--uninstall").exit_code == 0
        assert list(folder.iterdir()) == []


def test_a_config_elsewhere(run: Run, config: Path, tmp_path: Path) -> None:
    """A link stays one; where its target cannot be written, that is told and nothing has changed."""
    target = config.rename(tmp_path / "dotfiles")
    config.symlink_to(target)
    assert run("ssh-config", "--install").exit_code == 0
    assert config.is_symlink()
    assert target.read_bytes().endswith(THEIRS)
    assert run("ssh-config", "--uninstall").exit_code == 0
    assert target.read_bytes() == THEIRS
    config.unlink()
    config.symlink_to("/proc/primepods/config")
    result = run("ssh-config", "--install")
    assert (result.exit_code, "/proc/primepods/config cannot be written" in result.stderr) == (2, True)


def test_entries_come_and_go_with_pods(
    emulator: Emulator, run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command that learns of a pod adds it; a lease and delete remove theirs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    own = config.with_name("primepods_config")
    run("list")
    assert not own.exists()
    run("ssh-config", "--install")
    emulator.add_pod(id="later", name="later", boot_seconds=0)
    run("list")
    assert ssh_reads(config, "pod_later")["user"] != "me"
    run("delete", "later", "--yes")
    assert ssh_reads(config, "pod_later")["user"] == "me"
    line = f"cat {shlex.quote(str(own))}"
    words = ["--gpu-type", "H100", "--name", "leased", "--ssh-command", LOCAL_SSH, "--", line]
    result = run("run", *words)
    assert "Host pod_leased-" in result.stdout
    for thread in threads():
        thread.join(60)
    assert "leased" not in own.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command", [["ssh"], ["delete", "--yes"], ["wait", "--until", "gone"], ["history"]], ids=" ".join
)
def test_a_pod_that_others_have_deleted_goes(
    emulator: Emulator, run: Run, config: Path, command: list[str]
) -> None:
    """When a command is told so: by a 404, by a wait, or by the history, which has to know its end."""
    pod_id = "9e1f0a7c5b3d4e2f8a6b1c0d9e8f7a6b"
    emulator.add_pod(id=pod_id, name="taken", boot_seconds=0)
    run("ssh-config", "--install")
    emulator.delete_pod(pod_id)
    with emulator.faults.add(Edit(put={"data.0.terminatedAt": None}), on="history"):
        run("history")
    assert ssh_reads(config, "pod_taken")["user"] != "me"
    run(*command, *([pod_id] if command != ["history"] else []))
    assert ssh_reads(config, "pod_taken")["user"] == "me"


def test_changes_keep_their_order(run: Run, config: Path) -> None:
    """Also while another process holds the lock, for which their threads wait."""
    run("ssh-config", "--install")
    own = config.with_name("primepods_config")
    target = primepods.SSHTarget("root", "192.0.2.8", 22)
    with own.with_name("primepods_config.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in range(8):
            note_hosts([HostEntry(f"id{number}", "brief", (target,))], in_thread=True)
            note_hosts(removed=[f"id{number}"], in_thread=True)
    for thread in threads():
        thread.join(60)
    assert "brief" not in own.read_text(encoding="utf-8")


def threads() -> list[threading.Thread]:
    """The threads that change our file."""
    return [thread for thread in threading.enumerate() if thread.name == "primepods-hosts"]


def test_many_at_once(run: Run, config: Path) -> None:
    """No change is lost, and no file is half written; a line that is none of ours spoils nothing."""
    run("ssh-config", "--install")
    with config.with_name("primepods_config").open("a", encoding="utf-8") as file:
        file.write('# primepods: [1, "x", []]\n')
    target = primepods.SSHTarget("root", "192.0.2.8", 22)

    def add(number: int) -> None:
        note_hosts([HostEntry(f"id{number}", f"n{number}", (target,))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    text = config.with_name("primepods_config").read_text(encoding="utf-8")
    assert {f"Host pod_n{number}" for number in range(24)} <= {
        line.rpartition(" ")[0] if line.count(" ") > 1 else line for line in text.splitlines()
    }


def test_pods_of_another_state_folder_stay_out(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as an emulator's: its host keys are others."""
    run("ssh-config", "--install")
    before = config.with_name("primepods_config").read_bytes()
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "other"))
    note_hosts([HostEntry("id", "name", (primepods.SSHTarget("root", "192.0.2.8", 22),))])
    assert config.with_name("primepods_config").read_bytes() == before


def test_a_removed_lock_protects_nothing(run: Run, config: Path) -> None:
    """An installation that has waited for it while another process uninstalls takes the next one."""
    run("ssh-config", "--install")
    path = config.with_name("primepods_config.lock")
    with path.open("ab") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(install_hosts, [])
        opened = Path("/proc/self/fd")
        wait_for(lambda: [file.resolve() for file in opened.iterdir()].count(path.resolve()) == 2)
        path.unlink()
        lock.close()
        waiting.result()
    assert path.exists()


def test_what_excludes_each_other(run: Run) -> None:
    """It is told, and nothing happens."""
    assert run("ssh-config", "--install", "--uninstall").exit_code == 2
    assert run("ssh-config", "pod0", "--install").exit_code == 2
    assert not (Path.home() / ".ssh").exists()


def test_config_blocks(emulator: Emulator, run: Run) -> None:
    """A block a machine, with the pod's name if that is one for ssh and no other pod's, else with its id.

    It knows the host key that `exec` knows.
    """
    emulator.add_pod(id="two", name="two", nodes=2, gpu_count=16, boot_seconds=0)
    emulator.add_pod(id="odd1", name="Host *", boot_seconds=0)
    emulator.add_pod(id="same", name="train-0", boot_seconds=0)
    block = run("ssh-config", "there").stdout
    assert block.startswith(
        "Host pod_there pod_there-01\n    HostName 192.0.2.7\n    User root\n    Port 22\n    "
    )
    assert "    HostKeyAlias there-0123456789\n" in block
    lines = run("ssh-config").stdout.splitlines()
    assert {"    HostKeyAlias two", "    HostKeyAlias two-1"} <= set(lines)
    hosts = [line.split()[1].removeprefix("pod_") for line in lines if line.startswith("Host pod_")]
    assert sorted(hosts) == ["odd1", "pod0", "same", "there", "train-1", "train-2", "two-0", "two-1"]


def test_no_machine_takes_the_name_of_another(emulator: Emulator, run: Run) -> None:
    """Not even a pod whose name is that of another pod's second machine, nor one named as a host."""
    emulator.add_pod(id="two", name="two", nodes=2, gpu_count=16, boot_seconds=0)
    emulator.add_pod(id="one", name="two-1", boot_seconds=0)
    emulator.add_pod(id="evil", name="github.com", boot_seconds=0)
    emulator.add_pod(id="thief", name="one", boot_seconds=0)
    lines = run("ssh-config").stdout.splitlines()
    hosts = [word for line in lines if line.startswith("Host ") for word in line.split()[1:]]
    assert {"pod_two-0", "pod_two-1", "pod_one", "pod_thief", "pod_github.com"} <= set(hosts)
    assert len(hosts) == len(set(hosts))
    assert all(host.startswith("pod_") for host in hosts)


def test_an_odd_pod_spoils_no_other(emulator: Emulator, run: Run) -> None:
    """A pod that no file can name is skipped, and told."""
    emulator.add_pod(id="a\x1bb", name="Host *", boot_seconds=0)
    result = run("ssh-config")
    assert (result.exit_code, result.stdout.count("Host pod_")) == (0, 4)
    assert "skipped" in result.stderr
    assert "\x1b" not in result.stderr


def test_config_has_all_that_can_be_read(emulator: Emulator, run: Run) -> None:
    """A row that cannot be read hides no other pod, and is told."""
    emulator.faults.add(Edit(put={"data.1.priceHr": "?"}), on="list")
    result = run("ssh-config")
    assert result.exit_code == 1
    assert "Host pod_train-0 " in result.stdout
    assert "Host pod_train-2 " in result.stdout
    assert "priceHr" in result.stderr
