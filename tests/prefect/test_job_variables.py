"""Job variables that Prefect would drop are named before anything is rented."""

import copy
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("prefect", reason="needs the extra `prefect`")

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun

from primepods.prefect import PrimeCredentials, PrimePodJobConfiguration, PrimePodWorker

from .server import Setting

TEMPLATE = PrimePodWorker.get_default_base_job_template()
NO_SERVER = "http://127.0.0.1:1/api"


async def resolve(template: dict[str, Any], values: dict[str, Any]) -> PrimePodJobConfiguration:
    """Return the configuration of a flow run, as the worker makes it."""
    configuration = await PrimePodJobConfiguration.from_template_and_values(
        base_job_template=template, values=values, client=PrefectClient(NO_SERVER)
    )
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="a-run"))
    return configuration


def changed(part: str, name: str, value: Any) -> dict[str, Any]:
    """Return the default template with another value in its configuration or among its variables."""
    template = copy.deepcopy(TEMPLATE)
    schema = template["variables"]["properties"]
    {"job_configuration": template["job_configuration"], "variables": schema}[part][name] = value
    return template


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_hour": 2, "gpuType": "H100"}, "template: gpuType, max_hour. Job variables, .*max_hours"),
        ({"environment.TOKEN": "a"}, "template: environment"),
        ({"image": "cuda"}, "template: image.*fields of `spec` belong into it"),
        ({"spec": {"gpu_type": "H100", "name": "train"}}, "not fields of `spec`: gpu_type, name"),
        ({"spec": {"cloud_id": "c", "gpu_type": "H100", "max_price": 1}}, "`spec`: max_price"),
    ],
)
async def test_a_value_that_nothing_uses_is_named(values: dict[str, Any], message: str) -> None:
    """With the names that there are, or with the place where it belongs."""
    configuration = await resolve(TEMPLATE, values)
    with pytest.raises(ValueError, match=message):
        configuration.check()


@pytest.mark.parametrize(
    ("part", "name", "value", "values"),
    [
        ("job_configuration", "max_hour", 2, {}),
        ("variables", "max_hour", {"default": 2}, {}),
        # Prefect would use the template's own value.
        ("job_configuration", "max_hours", 2, {"max_hours": 9}),
    ],
)
async def test_a_value_of_the_template_that_nothing_uses_is_named(
    part: str, name: str, value: Any, values: dict[str, Any]
) -> None:
    """Also if it is no job variable of the flow run."""
    configuration = await resolve(changed(part, name, value), values)
    with pytest.raises(ValueError, match=rf"template: {name}\."):
        configuration.check()


async def test_what_has_an_effect_is_no_error() -> None:
    """Prefect's own variables, its dotted names, a template's own variables, and null."""
    template = changed("job_configuration", "spec", {"disk_size": "{{ disk }}"})
    template["variables"]["properties"]["disk"] = {"type": "integer", "default": 100}
    template["variables"]["properties"]["note"] = {"type": "string"}
    del template["job_configuration"]["labels"]
    standard = {"name": "train", "labels": {"a": "b"}, "command": "true", "env.TOKEN": "c"}
    configuration = await resolve(template, {**standard, "disk": 500, "max_hours": None})
    configuration.check()
    assert configuration.spec == {"disk_size": 500}
    assert configuration.env["TOKEN"] == "c"
    assert configuration.max_hours is None


async def test_a_run_costs_at_most_a_day_by_default() -> None:
    """The limit that the form of the pool shows, and the same for a pool without it."""
    assert (await resolve(TEMPLATE, {})).max_hours == 24
    assert (await resolve(changed("variables", "max_hours", {"default": None}), {})).max_hours == 24


def test_the_form_explains_each_variable() -> None:
    """Each variable of the pool and each field of the block has a title and a description."""
    fields = {**TEMPLATE["variables"]["properties"], **PrimeCredentials.model_json_schema()["properties"]}
    assert [name for name, field in fields.items() if not field["title"]] == []
    own = {name: field for name, field in fields.items() if name not in {"command", "env", "labels"}}
    assert [name for name, field in own.items() if not field.get("description")] == []


@pytest.mark.slow
@pytest.mark.timeout(500)
async def test_a_misspelt_variable_is_refused(setting: Setting) -> None:
    """Prefect's server accepts it; the run crashes with its name and that of the pool, and rents nothing."""
    template = changed("job_configuration", "max_spent", 5)
    pool = WorkPoolCreate(name=setting.pool, type="prime-pod", base_job_template=template)
    await setting.client.create_work_pool(pool)
    await setting.start_worker()
    run = await setting.start("train", max_hour=2)
    await setting.crashed(run, "template: max_hour, max_spent")
    assert not setting.emulator.requests.where(method="POST")
