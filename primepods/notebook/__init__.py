"""Waits and watches in a notebook, with live output. Needs the extra ``notebook`` (IPython).

Both clients can be used. With ``AsyncClient``, await the call or run it as a task::

    statuses = await primepods.notebook.wait(client, pods)
    task = asyncio.create_task(primepods.notebook.watch(client))
"""

from ._live import wait, watch

__all__ = ["wait", "watch"]
