"""Draw the pictures of the README and of the command's guide, from the command's own output.

    python .github/docs/pictures.py

Each command runs in a terminal of its own, against the emulator; its last screen becomes an SVG.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from primepods.emulator import Emulator

FOLDER: Final = Path(__file__).parents[2] / "primepods" / "cli"
HOME: Final = "\x1b[H"
"""What a full screen begins with."""
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


def run(command: list[str], emulator: Emulator, *, seconds: float, columns: int, lines: int) -> str:
    """Run a command in a terminal, interrupt it after some seconds, and return its last screen."""
    environment = os.environ | {
        "PRIME_API_KEY": emulator.api_key,
        "PRIME_API_BASE_URL": emulator.url,
        "COLUMNS": str(columns),
        "LINES": str(lines),
        "TERM": "xterm-256color",
    }
    outside, inside = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    end = time.monotonic() + seconds
    printed = b""
    try:
        while time.monotonic() < end:
            if select.select([outside], [], [], 0.1)[0]:
                printed += os.read(outside, 1 << 16)
    except OSError:
        pass  # the command has ended, and its terminal with it
    process.send_signal(signal.SIGINT)
    process.wait()
    os.close(outside)
    return printed.decode().rpartition(HOME)[2].replace("\r\n", "\n")


def draw(title: str, screen: str, columns: int) -> str:
    """Return a terminal's screen as SVG."""
    console = Console(
        record=True, width=columns, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    return console.export_svg(title=title, code_format=FORMAT, unique_id="t")


def main() -> None:
    """Draw all pictures."""
    primepods = [sys.executable, "-m", "primepods"]
    with Emulator(pods=400, seed=7, boot_seconds=40, failure_rate=0.03) as emulator:
        screen = run([*primepods, "watch"], emulator, seconds=25, columns=100, lines=24)
    (FOLDER / "watch.svg").write_text(draw("primepods watch", screen, 100), encoding="utf-8")
    with Emulator(history=60, seed=7) as emulator:
        screen = run(
            [*primepods, "history", "--since", "14d", "--limit", "12"],
            emulator,
            seconds=8,
            columns=92,
            lines=60,
        )
    (FOLDER / "history.svg").write_text(draw("primepods history", screen, 92), encoding="utf-8")


if __name__ == "__main__":
    main()
