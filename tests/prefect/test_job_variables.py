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
        ({"max_hour": 2}, "There is no job variable 'max_hour': did you mean 'max_hours'?"),
        ({"gpuType": "H100"}, "There is no job variable 'gpuType': did you mean 'gpu_type'?"),
        ({"environment.TOKEN": "a"}, "There is no job variable 'environment'"),
        ({"xyzzy": 1}, r"no job variable 'xyzzy'; known: command, credentials, .*, stream_output\."),
        ({"image": "cuda"}, r"'image': it is a field of `spec`, as in \{'spec': \{'image': …\}\}\."),
        ({"spec": {"disk_sise": 9}}, "`spec` has no field 'disk_sise': did you mean 'disk_size'?"),
        ({"spec": {"gpu_type": "H100"}}, "The field 'gpu_type' of `spec` would have no effect"),
        ({"spec": {"name": "train"}}, "set the job variable 'name'"),
        ({"spec": {"max_price": 1}, "max_price": 5}, "The field 'max_price' of `spec`"),
        ({"spec": {"cloud_id": "c", "max_price": 1}, "max_price": 5}, "The field 'max_price' of `spec`"),
        ({"max_hour": 2, "pot": True}, "'max_hours'?.*'spot'?"),
    ],
)
async def test_a_value_that_nothing_uses_is_named(values: dict[str, Any], message: str) -> None:
    """With the most similar name, or with the place where it belongs."""
    configuration = await resolve(TEMPLATE, values)
    with pytest.raises(ValueError, match=message):
        configuration.check()


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("job_configuration", "max_hour", 2, "sets 'max_hour' in .*: did you mean 'max_hours'?"),
        ("variables", "max_hour", {"default": 2}, "default of 'max_hour', .*: did you mean 'max_hours'?"),
    ],
)
async def test_a_value_of_the_template_that_nothing_uses_is_named(
    part: str, name: str, value: Any, message: str
) -> None:
    """Also if it is no job variable of the flow run."""
    configuration = await resolve(changed(part, name, value), {})
    with pytest.raises(ValueError, match=message):
        configuration.check()


async def test_a_value_that_the_template_overrides_is_named() -> None:
    """The name is right, but Prefect would use the template's own value."""
    configuration = await resolve(changed("job_configuration", "max_hours", 2), {"max_hours": 9})
    assert configuration.max_hours == 2
    with pytest.raises(ValueError, match="'max_hours' would have no effect"):
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
    """Prefect's server accepts it; the run crashes with the right name, and nothing is rented."""
    template = changed("job_configuration", "max_spent", 5)
    pool = WorkPoolCreate(name=setting.pool, type="prime-pod", base_job_template=template)
    await setting.client.create_work_pool(pool)
    await setting.start_worker()
    run = await setting.start("train", max_hour=2)
    [crashed] = await setting.ended(run)
    assert crashed.state is not None
    assert crashed.state_name == "Crashed"
    assert "'max_hour': did you mean 'max_hours'?" in str(crashed.state.message)
    # Also one of the pool.
    assert "sets 'max_spent'" in str(crashed.state.message)
    assert not setting.emulator.requests.where(method="POST")
