"""Job variables of a work pool, and the configuration of a flow run."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import Field, PrivateAttr

from .. import AsyncClient, Pod, PodSpec
from ._credentials import PrimeCredentials

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

_POD_NAME = re.compile(r"(.*-([0-9a-f]{32})-[0-9a-f]{4})(-[0-9a-z-]+)?")
_MAX_BEGINNING = 7
"""Max length of the name's prefix: with the flow run's id and the lease's suffix it has 63 characters."""
_MAX_OFFERS = 3
_CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


def _credentials() -> Any:
    return Field(
        default=None,
        description="A Prime Credentials block; without one, PRIME_API_KEY of the worker's environment.",
    )


class PrimePodVariables(BaseVariables):
    """Job variables of a work pool of type ``prime-pod``, as shown in its form."""

    name: str | None = Field(
        default="prefect",
        title="Pod name",
        description="The beginning of the pod's name, up to 7 letters; the flow run's id follows.",
    )
    credentials: PrimeCredentials | None = _credentials()
    gpu_type: str | None = Field(
        default=None, title="GPU", description="Such as H100_80GB; without one, the cheapest."
    )
    gpu_count: int = Field(default=1, ge=1, title="Number of GPUs")
    regions: list[str] | None = Field(default=None, description="Such as united_states or eu_north.")
    spot: bool = Field(
        default=False,
        title="Spot machines",
        description="Whether machines count that the provider may take away at any time.",
    )
    max_price: float | None = Field(
        default=None, gt=0, title="Highest price", description="The highest price per hour."
    )
    spec: dict[str, Any] = Field(
        default_factory=dict,
        title="Pod specification",
        description=(
            "Other fields of primepods.PodSpec, such as image, disk_size, ssh_key_id or custom_template_id. "
            "With a cloud_id, it is ordered as it stands here, and the cheapest offer is not looked for."
        ),
    )
    ready_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds for the pod to become ready, or it is deleted."
    )
    poll_interval: float = Field(default=5.0, ge=0.05, description="Seconds between two looks at the pod.")
    max_hours: float | None = Field(
        default=None, gt=0, description="Hours after which the pod is deleted and the run crashes."
    )
    max_spend: float | None = Field(
        default=None, gt=0, description="What the pod may cost before it is deleted and the run crashes."
    )
    ssh_command: str = Field(
        default="ssh", title="ssh program", description="The program that logs in, and its first words."
    )
    ssh_options: list[str] = Field(
        default_factory=list,
        title="ssh options",
        description="A word each, such as -i and the file of the private key; they win over ours.",
    )
    login_timeout: float = Field(
        default=120.0, gt=0, description="Seconds in which a ready pod must let the worker log in."
    )
    setup: str | None = Field(
        default=None,
        title="Set-up script",
        description="Shell lines that run on the pod before the command, such as: pip install -q prefect",
    )
    stream_output: bool = Field(
        default=True, description="Whether what the command prints goes to the flow run's log."
    )


class PrimePodJobConfiguration(BaseJobConfiguration):
    """Configuration of one flow run; see :class:`PrimePodVariables`."""

    name: str | None = "prefect"
    credentials: PrimeCredentials | None = None
    gpu_type: str | None = None
    gpu_count: int = Field(default=1, ge=1)
    regions: list[str] | None = None
    spot: bool = False
    max_price: float | None = Field(default=None, gt=0)
    spec: dict[str, Any] = Field(default_factory=dict)
    ready_timeout: float = Field(default=1800.0, gt=0)
    poll_interval: float = Field(default=5.0, ge=0.05)
    max_hours: float | None = Field(default=None, gt=0)
    max_spend: float | None = Field(default=None, gt=0)
    ssh_command: str = "ssh"
    ssh_options: list[str] = Field(default_factory=list)
    login_timeout: float = Field(default=120.0, gt=0)
    setup: str | None = None
    stream_output: bool = True

    _pod_name: str = PrivateAttr(default="")

    def prepare_for_flow_run(  # noqa: PLR0913, PLR0917 - Prefect's own parameters
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Set the values that depend on the flow run: environment, command, and the pod's name."""
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id)
        # Prefect on the pod sends its log to the server itself: printed lines would appear twice.
        self.env = {_CONSOLE_LEVEL: "CRITICAL", **self.env}
        self._pod_name = pod_name(self.name, flow_run.id)

    @property
    def pod_name(self) -> str:
        """Prefix of the name of this attempt's pod; different for each attempt of a flow run."""
        return self._pod_name

    def get_client(self) -> AsyncClient:
        """Return a client with the credentials of this configuration, or of the environment.

        Raises:
            ConfigError: There is no valid key.
        """
        return AsyncClient() if self.credentials is None else self.credentials.get_client()

    async def pod_specs(self, client: AsyncClient) -> list[PodSpec]:
        """Return the specs to order: the given one, or those of the matching offers, cheapest first.

        Args:
            client: Client to find offers with.

        Raises:
            SoldOutError: No offer matches.
            TypeError: The spec has unknown fields.
            ValueError: A field is invalid.
        """
        changes: dict[str, Any] = {**self.spec, "name": self.pod_name}
        if self.max_price is not None:
            changes["max_price"] = self.max_price
        if "cloud_id" in changes:
            fields: dict[str, Any] = {"gpu_type": self.gpu_type, "gpu_count": self.gpu_count}
            return [PodSpec(**fields | changes)]
        wanted: dict[str, Any] = {
            "gpu_type": self.gpu_type,
            "gpu_count": self.gpu_count,
            "regions": self.regions,
            "spot": self.spot,
            "max_price": self.max_price,
        }
        offers = await client.availability.find(**wanted, limit=_MAX_OFFERS)
        # Without offers, `cheapest` raises an error that lists what is available.
        return PodSpec.from_offers(offers or [await client.availability.cheapest(**wanted)], **changes)


def pod_name(beginning: str | None, flow_run_id: UUID) -> str:
    """Return a new name prefix for an attempt's pods; the lease adds a suffix.

    The last letters differ between the attempts of a flow run, so that cleanup after one never deletes the
    pod of the next.
    """
    beginning = re.sub("[^a-z0-9-]+", "-", (beginning or "prefect").lower()).strip("-")[:_MAX_BEGINNING]
    return f"{beginning}-{flow_run_id.hex}-{secrets.token_hex(2)}"


def flow_run_id_of(name: str | None) -> UUID | None:
    """Return the id of the flow run of a pod, from the pod's name; ``None`` for any other pod."""
    found = _POD_NAME.fullmatch(name or "")
    return UUID(found[2]) if found else None


def is_pod_of(name: str, pod: Pod) -> bool:
    """Return whether a pod belongs to an attempt, by its unique :func:`pod_name`."""
    found = _POD_NAME.fullmatch(pod.name or "")
    return pod.name == name or (found is not None and found[1] == name)
