"""Waits and watches in a notebook: one output, redrawn in place. Needs the extra ``notebook`` (IPython).

Both clients can be used. With the asynchronous one, ``await`` the call, or run it as a task::

    statuses = await primepods.notebook.wait(client, pods)
    task = asyncio.create_task(primepods.notebook.watch(client))
"""

from ._live import wait, watch

__all__ = ["wait", "watch"]
