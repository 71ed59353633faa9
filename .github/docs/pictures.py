"""Draw the pictures of the README and of the command's guide, from the command's own output.

    python .github/docs/pictures.py

Each command runs in a terminal of its own, against the emulator; what it shows when it ends or is interrupted
becomes an SVG. It needs the dependency group `docs`.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from io import StringIO
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyte
from rich.color import ANSI_COLOR_NAMES
from rich.console import Console
from rich.style import Style
from rich.text import Text

from primepods.emulator import Emulator

FOLDER: Final = Path(__file__).parents[2] / "primepods" / "cli"
LOCAL_SSH: Final = f"{sys.executable} -m primepods.emulator.local_ssh"
TRAINING: Final = """\
import os, time
os.mkdir("out")
for epoch in range(1, 4):
    time.sleep(1)
    print(f"epoch {epoch}: loss {2.3 / epoch:.2f}", flush=True)
with open("out/model.pt", "wb") as model:
    model.write(bytes(120_000))
"""
"""What the picture of `run` runs."""
FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
        font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: arial; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""rich's own format without its font, which is loaded from the network."""


def run(command: list[str], emulator: Emulator, *, seconds: float, columns: int, lines: int) -> pyte.Screen:
    """Run a command in a terminal, interrupt it after some seconds, and return what the terminal shows."""
    environment = os.environ | {
        "PRIME_API_KEY": emulator.api_key,
        "PRIME_API_BASE_URL": emulator.url,
        "COLUMNS": str(columns),
        "LINES": str(lines),
        "TERM": "xterm-256color",
        "PRIMEPODS_SSH_COMMAND": f"{LOCAL_SSH} --homes {tempfile.gettempdir()} --emulator {emulator.url}",
    }
    outside, inside = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if select.select([outside], [], [], 0.1)[0]:
                stream.feed(os.read(outside, 1 << 16))
    except OSError:
        pass  # the command has ended, and its terminal with it
    process.send_signal(signal.SIGINT)
    process.wait()
    os.close(outside)
    return screen


def color(name: str) -> str | None:
    """Return rich's name of a color of pyte."""
    name = name.replace("brown", "yellow").replace("bright", "bright_")
    return name if name in ANSI_COLOR_NAMES else None if name == "default" else f"#{name}"


def draw(title: str, screen: pyte.Screen) -> str:
    """Return what a terminal shows as SVG."""
    rows = []
    for number in range(screen.lines):
        row = Text()
        cells = (screen.buffer[number][column] for column in range(screen.columns))
        for (front, back, bold, reverse), same in groupby(
            cells, lambda cell: (cell.fg, cell.bg, cell.bold, cell.reverse)
        ):
            style = Style(color=color(front), bgcolor=color(back), bold=bold, reverse=reverse)
            row.append("".join(cell.data for cell in same), style)
        row.rstrip()
        rows.append(row)
    while rows and not rows[-1]:
        rows.pop()
    console = Console(
        record=True, width=screen.columns, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text("\n").join(rows), soft_wrap=True)
    return console.export_svg(title=title, code_format=FORMAT, unique_id="t")


def main() -> None:
    """Draw all pictures."""
    primepods = [sys.executable, "-m", "primepods"]
    with Emulator(pods=400, seed=7, boot_seconds=40, failure_rate=0.03) as emulator:
        screen = run([*primepods, "watch"], emulator, seconds=25, columns=100, lines=24)
    (FOLDER / "watch.svg").write_text(draw("primepods watch", screen), encoding="utf-8")
    with Emulator(history=60, seed=7) as emulator:
        screen = run(
            [*primepods, "history", "--since", "14d", "--limit", "12"],
            emulator,
            seconds=8,
            columns=92,
            lines=60,
        )
    (FOLDER / "history.svg").write_text(draw("primepods history", screen), encoding="utf-8")
    with (
        Emulator(seed=7, boot_seconds=12, delete_seconds=1) as emulator,
        TemporaryDirectory() as home,
        contextlib.chdir(home),
    ):
        os.environ["HOME"] = tempfile.tempdir = home
        source = Path("src")
        source.mkdir()
        (source / "train.py").write_text(TRAINING, encoding="utf-8")
        words = "run --gpu-type H100 --max-hours 2 --upload src --download out/ -- python3 train.py"
        screen = run([*primepods, *words.split()], emulator, seconds=60, columns=80, lines=24)
    (FOLDER / "run.svg").write_text(draw("primepods run", screen), encoding="utf-8")


if __name__ == "__main__":
    main()
