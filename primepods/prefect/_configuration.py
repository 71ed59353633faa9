"""Job variables of a work pool, and the configuration of a flow run."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from prefect.utilities.templating import find_placeholders
from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import BaseModel, Field, PrivateAttr

from .. import AsyncClient, PodSpec
from ._credentials import PrimeCredentials

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

_POD_NAME = re.compile(r"(?P<prefix>.*-(?P<flow_run>[0-9a-f]{32})-[0-9a-f]{4})(-[0-9a-z-]+)?")
_MAX_NAME_LENGTH = 7
"""Max characters of the job variable ``name``: the rest of a pod's name needs 56 of 63."""
_MAX_OFFERS = 3
_DEFAULT_MAX_HOURS = 24.0
"""Default of ``max_hours``. The limit adds an expiry to the pod's name, by which a sweep finds the pod."""
_CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


class _PodVariables(BaseModel):
    """The job variables that Prefect's own classes do not have, or not with these defaults."""

    name: str | None = Field(
        default="prefect",
        title="Pod Name",
        description="Prefix of the pod's name, up to 7 characters; the flow run's id follows.",
    )
    credentials: PrimeCredentials | None = Field(
        default=None,
        title="Prime Credentials",
        description="The API key to use; without this block, the worker's own.",
    )
    gpu_type: str | None = Field(
        default=None,
        title="GPU",
        description="GPU of the pod; by default that of the cheapest offer.",
        examples=["H100_80GB"],
    )
    gpu_count: int = Field(default=1, ge=1, title="Number of GPUs", description="GPUs of the pod.")
    regions: list[str] | None = Field(
        default=None,
        description="Only offers in these regions; by default in all regions.",
        examples=[["united_states", "eu_north"]],
    )
    spot: bool = Field(
        default=False,
        title="Spot Machines",
        description="Also order machines that the provider may take away at any time.",
    )
    max_price: float | None = Field(
        default=None, gt=0, title="Highest Price", description="Highest price per hour of the pod."
    )
    spec: dict[str, Any] = Field(
        default_factory=dict,
        title="Pod Specification",
        description=(
            "Other fields of primepods.PodSpec, such as image, disk_size, ssh_key_id or custom_template_id. "
            "With a cloud_id, no offer is searched for."
        ),
    )
    ready_timeout: float = Field(
        default=1800.0,
        gt=0,
        title="Ready Timeout (Seconds)",
        description="Seconds for the pod to become ready; after that, the next offer is tried.",
    )
    poll_interval: float = Field(
        default=5.0,
        ge=0.05,
        title="Poll Interval (Seconds)",
        description="Seconds between two polls of the pod.",
    )
    max_hours: float | None = Field(
        default=_DEFAULT_MAX_HOURS,
        gt=0,
        title="Maximum Run Time (Hours)",
        description="Hours from the order until the pod is deleted and the run crashes; null for no limit.",
    )
    max_spend: float | None = Field(
        default=None,
        gt=0,
        title="Maximum Spend",
        description="Cost of the pod at which it is deleted and the run crashes.",
    )
    ssh_command: str = Field(
        default="ssh",
        title="ssh Command",
        description="Program that logs in, optionally with its first arguments.",
    )
    ssh_options: list[str] = Field(
        default_factory=list,
        title="ssh Options",
        description="Options of ssh, one word each, which override the worker's own.",
        examples=[["-i", "/home/worker/.ssh/id_ed25519"]],
    )
    login_timeout: float = Field(
        default=120.0,
        gt=0,
        title="Login Timeout (Seconds)",
        description="Seconds for a ready pod to accept the login; after that, the next offer is tried.",
    )
    setup: str | None = Field(
        default=None,
        title="Set-up Script",
        description=(
            "Shell lines to run on the pod before the command, which gets their exports. `exit` in them "
            "crashes the run."
        ),
        examples=["pip install -q prefect"],
    )


class PrimePodVariables(_PodVariables, BaseVariables):
    """Job variables of a work pool of type ``prime-pod``, as shown in its form."""

    labels: dict[str, str] = Field(default_factory=dict, description="Not used: pods have no labels.")


class PrimePodJobConfiguration(_PodVariables, BaseJobConfiguration):
    """Configuration of one flow run; see :class:`PrimePodVariables`."""

    _pod_name_prefix: str = PrivateAttr(default="")
    _unused: list[str] = PrivateAttr(default_factory=list[str])

    @classmethod
    async def from_template_and_values(
        cls, base_job_template: dict[str, Any], values: dict[str, Any], client: PrefectClient | None = None
    ) -> Self:
        """Return the configuration, and keep the names of values that have no effect for :meth:`check`.

        A pod can therefore be deleted even if a variable is misspelt.
        """
        configuration: Self = await super().from_template_and_values(base_job_template, values, client=client)
        template: dict[str, Any] = base_job_template["job_configuration"]
        defaults = base_job_template["variables"].get("properties", {}).items()
        names = {*values, *(name for name, schema in defaults if schema.get("default") is not None)}
        # Each pool accepts Prefect's own variables. Prefect reads `env.TOKEN` as `TOKEN` in `env`.
        used = {*BaseVariables.model_fields, *(found.name for found in find_placeholders(template))}
        unused = {_first_part(name) for name in names} - {_first_part(name) for name in used}
        configuration._unused = sorted(unused | (template.keys() - cls.model_fields.keys()))
        return configuration

    def prepare_for_flow_run(self, flow_run: FlowRun, *args: Any, **kwargs: Any) -> None:
        """Set the values that depend on the flow run, such as the prefix of the pod's name."""
        super().prepare_for_flow_run(flow_run, *args, **kwargs)
        # Prefect on the pod sends its log to the server: lines that it also prints would appear twice.
        self.env = {_CONSOLE_LEVEL: "CRITICAL", **self.env}
        self._pod_name_prefix = new_pod_name_prefix(self.name, flow_run.id)

    def check(self) -> None:
        """Check that all job variables have an effect; call it before anything is rented.

        Raises:
            ValueError: A variable, a value of the work pool's base job template or a field of ``spec`` has no
                effect.
        """
        if self._unused:
            known = ", ".join(sorted(_PodVariables.model_fields.keys() | BaseVariables.model_fields.keys()))
            raise ValueError(
                "These names have no effect as job variables or in the work pool's base job template: "
                f"{', '.join(self._unused)}. Job variables, where the template uses them, are {known}; "
                "fields of `spec` belong into it."
            )
        variables = {"name", "max_price"}
        if "cloud_id" not in self.spec:
            variables |= {"gpu_type", "gpu_count"}
        if names := sorted(variables & self.spec.keys()):
            raise ValueError(f"Set job variables of these names, not fields of `spec`: {', '.join(names)}.")

    @property
    def pod_name_prefix(self) -> str:
        """Prefix of the names of this attempt's pods; see :func:`new_pod_name_prefix`."""
        return self._pod_name_prefix

    def continue_with(self, pod_name_prefix: str) -> None:
        """Use the pod of an earlier worker, whose name has this prefix."""
        self._pod_name_prefix = pod_name_prefix

    @property
    def has_limited_pod(self) -> bool:
        """Whether a pod may outlive its worker: only with ``max_hours``."""
        return self.max_hours is not None

    def get_client(self) -> AsyncClient:
        """Return a client with the credentials of this configuration, or else with the worker's own.

        Raises:
            ConfigError: There is no valid key, or another setting is invalid.
        """
        return AsyncClient() if self.credentials is None else self.credentials.get_client()

    async def pod_specs(self, client: AsyncClient) -> list[PodSpec]:
        """Return the specs to order: the given spec, or those of up to three matching offers, cheapest first.

        Args:
            client: Client to find offers with.

        Raises:
            SoldOutError: No offer matches.
            TypeError: A field of the spec is missing or unknown.
            ValueError: A field is invalid.
        """
        changes: dict[str, Any] = {**self.spec, "name": self.pod_name_prefix}
        if self.max_price is not None:
            changes["max_price"] = self.max_price
        if "cloud_id" in changes:
            fields: dict[str, Any] = {"gpu_type": self.gpu_type, "gpu_count": self.gpu_count}
            # The fields of the spec override the job variables.
            return [PodSpec(**(fields | changes))]
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


def _first_part(name: str) -> str:
    return name.partition(".")[0]


def new_pod_name_prefix(name: str | None, flow_run_id: UUID) -> str:
    """Return a new prefix for the names of an attempt's pods, with up to 7 characters of ``name``.

    The last four characters are random, so that cleanup after an attempt spares the pod of the next attempt.
    """
    name = re.sub("[^a-z0-9-]+", "-", (name or "prefect").lower()).strip("-")[:_MAX_NAME_LENGTH]
    return f"{name}-{flow_run_id.hex}-{secrets.token_hex(2)}"


def flow_run_id_of(name: str | None) -> UUID | None:
    """Return the id of a pod's flow run, from the pod's name; ``None`` for names of other pods."""
    found = _POD_NAME.fullmatch(name or "")
    return UUID(found["flow_run"]) if found else None


def is_pod_of(name_prefix: str, name: str | None) -> bool:
    """Return whether a pod belongs to the attempt with this prefix, or has exactly this name."""
    found = _POD_NAME.fullmatch(name or "")
    return name == name_prefix or (found is not None and found["prefix"] == name_prefix)
