"""Scripts as a pod's shell reads them, without a connection."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from primepods.remote._scripts import bootstrap, command_script, upload_script


def run(script: bytes, folder: Path, tools: str = "") -> subprocess.CompletedProcess[bytes]:
    """What a shell does that gets no more than this."""
    return subprocess.run(
        ["/bin/sh", "-c", bootstrap("mark")],
        input=script,
        cwd=folder,
        env={"PATH": f"{tools}:{os.defpath}"},
        capture_output=True,
        check=False,
        timeout=30,
    )


def test_a_script_that_was_cut_does_nothing(tmp_path: Path) -> None:
    """Wherever the connection is lost."""
    script = command_script("touch ran", env={"A": "b\nc'"}, cwd=None, has_input=True)
    for end in range(0, len(script), 7):
        run(script[:end], tmp_path)
    run(script[:-1], tmp_path)
    assert not list(tmp_path.iterdir())
    done = run(script, tmp_path)
    assert (tmp_path / "ran").exists()
    assert done.stdout == b"mark ready\nmark exit 0\n"


def test_an_upload_that_was_cut_leaves_what_was_there(tmp_path: Path) -> None:
    """Also one that ends where an archive might."""
    (tmp_path / "there").write_text("old", encoding="utf-8")
    for rest in (b"", b"\0" * 1024):
        done = run(upload_script("there", kind="file", name="x") + rest, tmp_path)
        assert b"mark exit 1\n" in done.stdout or b"mark exit 2\n" in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["there"]
        assert (tmp_path / "there").read_text(encoding="utf-8") == "old"


def test_a_file_is_unpacked_in_the_folder_that_it_goes_to(tmp_path: Path) -> None:
    """Beside that folder there may be another disk, or nothing that may be written."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    for folder in (home / "workspace", tools):
        folder.mkdir(parents=True)
    made = tmp_path / "made"
    (tools / "mkdir").write_text(f'#!/bin/sh\necho "$@" >>{made}\nexec /bin/mkdir "$@"\n', encoding="utf-8")
    (tools / "mkdir").chmod(0o755)
    run(upload_script("workspace", kind="file", name="x"), home, str(tools))
    assert "workspace/.mark" in made.read_text(encoding="utf-8")
    assert [path.name for path in home.iterdir()] == ["workspace"]
