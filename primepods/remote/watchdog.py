"""Watchdog: a process on a pod that deletes the pod when no machine of the user's is awake to do it."""

from __future__ import annotations

import math
import shlex
from functools import partial
from typing import Final

import attrs

from .._utils.arguments import check_seconds, check_text
from ..config import KEY_PAGE, Settings
from ..errors import ConfigError
from ._scripts import make_script
from .job import run_script
from .remote import AsyncRemote, get_login

_NEVER: Final = 10**9
_MAX_INTERVAL: Final = 60.0
_KEY_REFUSED: Final = 3
"""Exit code of the script if the API refuses the key."""


@attrs.frozen
class Watchdog:
    """A small process on a leased pod that deletes the pod, also while no machine of yours is awake.

    It deletes the pod when the lease's limit is reached, by the pod's clock, or earlier as the arguments say.
    It needs a shell and ``curl``, GNU ``wget`` or ``python3`` on the pod. Its key is on the pod: whoever owns
    the rented machine could read it there.

    Args:
        api_key: Its key, which needs the permission ``Instances: Read and Write``; by default
            ``PRIMEPODS_WATCHDOG_KEY``. ``"own"`` puts the client's key on the pod.
        after_job: Seconds after the pod's last job has ended and the last connection of primepods was closed;
            ``None`` for no such end. Without a job it has no effect.
        idle: Seconds in which no GPU was above 5 %, sampled at least once a minute with ``nvidia-smi``; by
            default no such end. Only for pods with one node.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    after_job: float | None = 3600.0
    idle: float | None = None

    def __attrs_post_init__(self) -> None:
        if self.api_key is not None:
            check_text("api_key", self.api_key, is_secret=True)
        for name in ("after_job", "idle"):
            if (seconds := getattr(self, name)) is not None:
                check_seconds(name, seconds, minimum=1)

    @property
    def reasons(self) -> str:
        """Why it may delete the pod, as a phrase: before the limit, if it may."""
        after = None if self.after_job is None else f"{self.after_job:g} s after its last job"
        idle = None if self.idle is None else f"no GPU was above 5 % for {self.idle:g} s"
        return " or ".join(filter(None, (after, idle))) or "at its limit"


async def start_watchdog(
    remote: AsyncRemote, watchdog: Watchdog, settings: Settings, seconds_left: float
) -> str:
    """Start a pod's watchdog, once its key has read the pod from there.

    Args:
        remote: The pod.
        watchdog: Its options, with the key.
        settings: Settings with the API's base URL and the pod's team.
        seconds_left: Seconds until it deletes the pod.

    Returns:
        Why the pod cannot run it, or an empty text.

    Raises:
        ConfigError: The API refuses the key.
        LoginError: No login succeeded.
        ConnectionLostError: The connection was lost, and not restored within ``login_timeout``.
    """
    pod_id, idle = remote.pod_id, watchdog.idle
    after_job = min(watchdog.after_job or _NEVER, _NEVER)
    script = make_script(
        "watchdog.sh",
        f"{settings.base_url}/api/v1/pods/{pod_id}",
        pod_id,
        settings.team_id or "",
        str(math.ceil(min(seconds_left, _NEVER))),
        str(math.ceil(after_job)),
        "" if idle is None else str(math.ceil(min(idle, _NEVER))),
        str(math.ceil(min(_MAX_INTERVAL, after_job, idle or _NEVER))),
        watchdog.api_key or "",
    )
    code, _, said = await run_script(
        partial(get_login, remote),
        script,
        "start of the watchdog",
        remedy="its log is in ~/.primepods/watchdog",
    )
    if code == _KEY_REFUSED:
        raise ConfigError(
            f"The watchdog's key cannot read pod {pod_id} from there: GET got {said}. Give it a key of the "
            f"same account with the permission Instances (Read and Write), from {KEY_PAGE}."
        )
    return f"its watchdog cannot be started: {said.rstrip('.') or f'exit code {code}'}" if code else ""


async def end_watchdog(remote: AsyncRemote) -> None:
    """End a pod's watchdog, if it has one: it deletes nothing from now on.

    Raises:
        PrimePodsError: The pod could not be reached in time.
    """
    folder = shlex.quote(f".primepods/watchdog/{remote.pod_id}")
    await remote.run(f"[ ! -d {folder} ] || touch {folder}/off")
