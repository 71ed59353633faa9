"""What Airflow sees of the provider."""

import json
import subprocess
import sys

import pytest

from primepods.airflow.get_provider_info import get_provider_info
from primepods.emulator import Emulator

from .conftest import ROOT, connection


def test_provider_info_is_quick() -> None:
    """Each of Airflow's commands asks for it: neither Airflow nor a client is imported for that."""
    code = (
        "import sys; from primepods.airflow.get_provider_info import get_provider_info; get_provider_info();"
        "print(*{'airflow', 'aiohttp', 'attrs', 'primepods.client'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_its_modules_exist() -> None:
    """Each that it names is a file of the package."""
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for group in info[kind]:
            for name in group["python-modules"]:
                assert (ROOT / f"{name.replace('.', '/')}.py").exists()


@pytest.mark.timeout(120)
def test_airflow_finds_the_provider(airflow_home: dict[str, str]) -> None:
    """It is installed as one, its connection type is there, and its description is valid."""
    code = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.providers_manager import ProvidersManager
[form] = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "prime"]
manager = ProvidersManager()
links = manager.extra_links_class_names
fields = {name: getattr(form.standard_fields, name).title for name in ("host", "password", "login")}
hidden = [name for name, field in form.standard_fields if field is not None and field.hidden]
print("FOUND", json.dumps([form.hook_class_name, fields, hidden, links, "primepods" in manager.providers]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=airflow_home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    hook, fields, hidden, links, installed = json.loads(done.stdout.partition("FOUND ")[2].splitlines()[0])
    assert hook == "primepods.airflow.hooks.PrimePodsHook"
    assert fields == {"host": "Base URL", "password": "API key", "login": "Team ID"}
    assert hidden == ["url_schema", "port"]
    assert "primepods.airflow.links.PrimePodsLink" in links
    assert installed


@pytest.mark.newest
@pytest.mark.timeout(120)
def test_the_button_of_the_form_tests_a_connection(airflow_home: dict[str, str], emulator: Emulator) -> None:
    """It says how many pods the account has, or why the API refuses it."""
    emulator.add_pod()
    code = (
        "from primepods.airflow.hooks import PrimePodsHook; print('SAID', PrimePodsHook().test_connection())"
    )
    for key, said in (
        (emulator.api_key, "SAID (True, 'The API answers: this account has 1 pods.')"),
        ("no", "SAID (False, "),
    ):
        variables = {name: text.replace(emulator.api_key, key) for name, text in connection(emulator).items()}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=airflow_home | variables, capture_output=True, text=True, check=True
        )
        assert said in done.stdout
