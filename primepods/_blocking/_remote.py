"""``client.pods.remote``, blocking."""

from __future__ import annotations

from typing import Final

from ..remote import AsyncRemote
from ._delegate import Delegate, blocking


class Remote(Delegate[AsyncRemote]):
    """Client for commands and file copies on one pod, with the system's ``ssh``; see ``pods.remote``.

    Each call has its own connection; any number may run at once. Your ssh configuration, keys and agent
    apply. The login is retried for ``login_timeout``; nothing is sent before it succeeds.
    """

    @property
    def pod_id(self) -> str:
        """The pod's id."""
        return self._async.pod_id

    run: Final = blocking(AsyncRemote.run)
    upload: Final = blocking(AsyncRemote.upload)
    download: Final = blocking(AsyncRemote.download)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"
