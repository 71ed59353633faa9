"""`primepods exporter`: Prometheus metrics of the account."""

from __future__ import annotations

from typing import Annotated

import primepods
from primepods._utils.text import install_hint

from ._shared.command import Api, api_command
from ._shared.durations import duration_option
from ._shared.errors import CommandError, ExitCode
from ._shared.options import option
from ._shared.table import print_info


@api_command
def command(
    api: Api,
    *,
    port: Annotated[int, option("Port to listen on.", "PORT", min=0, max=65_535)] = 9400,
    host: Annotated[
        str,
        option("Address to listen on; anyone who can reach it can read the metrics.", "HOST"),
    ] = "127.0.0.1",
    interval: Annotated[float, duration_option("Time between two readings.", show_default="60s")] = 60.0,
) -> None:
    """Serve Prometheus metrics of the account: pods, their price per hour and age, disks, balance.

    Counts all pods and disks of the account, whoever ordered them. Reads the account once per interval, not
    for each scrape. The metric primepods_up is 0 for a part that cannot be read. Needs the extra exporter.
    """
    try:
        from primepods.exporter import serve
    except ModuleNotFoundError as exc:
        text = f"{exc.name} is not installed. {install_hint('exporter')}"
        raise CommandError(text, ExitCode.USAGE) from None

    async def work(client: primepods.AsyncClient) -> None:
        print_info(f"Serving http://{host}:{port}/metrics until Ctrl-C.")
        with primepods.exit_on_sigterm():
            await serve(client, host=host, port=port, interval=interval)

    api.run(work)
