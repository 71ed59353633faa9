"""What Airflow sees of the provider."""

import subprocess
import sys

import pytest

from primepods.emulator import Emulator

from .conftest import ROOT, Call, connection


def test_provider_info_is_quick() -> None:
    """Each of Airflow's commands asks for it: neither Airflow nor a client is imported for that."""
    code = (
        "import sys; from primepods.airflow.get_provider_info import get_provider_info; get_provider_info();"
        "print(*{'airflow', 'aiohttp', 'attrs', 'primepods.client'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.each_version
@pytest.mark.timeout(500)
def test_airflow_finds_the_provider(call: Call) -> None:
    """It is installed as one, its connection type is there, and its description is valid."""
    found, _ = call("provider", None)
    assert found["hook"] == "primepods.airflow.hooks.PrimePodsHook"
    assert found["fields"] == {"host": "Base URL", "password": "API key", "login": "Team ID"}
    assert found["hidden"] == ["url_schema", "port"]
    assert "primepods.airflow.links.PrimePodsLink" in found["links"]
    assert found["is_installed"]


@pytest.mark.timeout(500)
def test_the_button_of_the_form_tests_a_connection(call: Call, emulator: Emulator) -> None:
    """It says how many pods the account has, or why the API refuses it."""
    emulator.add_pod()
    for key, said in (
        (emulator.api_key, [True, "The API responds: this account has 1 pods."]),
        ("no", [False]),
    ):
        variables = {name: text.replace(emulator.api_key, key) for name, text in connection(emulator).items()}
        answer, _ = call("press_test_button", None, **variables)
        assert answer[: len(said)] == said
