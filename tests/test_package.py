"""The package as it is handed over: its names, its version, what it needs and what is in its wheel."""

import ast
import email
import importlib
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import primepods
import primepods.emulator

ROOT = Path(__file__).parent.parent

# What other people's code imports: a name that leaves this list breaks somebody.
_NAMES = """
APIError Account AccountInfo AsyncAccountInfo AsyncAvailability AsyncClient AsyncDisks AsyncForward AsyncJob
AsyncJobOutput AsyncLease AsyncLeasedPod AsyncPager AsyncPods AsyncPool AsyncRemote AsyncSSHKeys AsyncWatch
AttachedResource AuthenticationError Availability BadRequestError BillingEntry BudgetExceededError Client
ClientClosedError CommandError CommandResult CommandTimeoutError ConfigError ConflictError
ConnectionLostError CreateUncertainError Deletions Disk DiskOffer DiskSpec Disks Endpoint FieldError Forward
GPU_CHECK GpuPrices HistoryRecord InstallationState Job JobError JobOutput JobState Lease LeasedPod LoginError
Node NotFoundError NotReleasedError Offer OnChange OnEvent OnLine OnProgress OrphanedPod OutputLine Page Pager
PaymentRequiredError Permission PermissionDeniedError Pod PodChange PodFailedError PodRef PodSpec PodState
PodStatus PodStatuses Pods Pool PoolProgress PoolResult PortMapping PriceTooHighError Prices PrimePodsError
PrimePodsErrorGroup ProtocolError RateLimitError Remote RequestTimeoutError Resources RetryPolicy SSHKey
SSHKeys SSHTarget ServerError SkippedLease SoldOutError SpecRange Sweep Team TeamMember TransferError
TransportError Until ValidationError WaitError WaitTimeoutError Wallet Watch Watchdog __version__ check_work
exit_on_sigterm failed gone ready settled
"""
PUBLIC_NAMES = _NAMES.split()


def test_the_readme_has_all_errors() -> None:
    """Its tree names each class that is caught by name, and no other."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("```text\nPrimePodsError\n")[2].partition("```")[0]
    named = set(re.findall(r"\b[A-Z]\w+(?:Error|Group)\b", tree)) - {"TimeoutError", "ExceptionGroup"}
    errors = {name for name in PUBLIC_NAMES if re.search(r"Error(Group)?$", name)}
    assert named == errors - {"PrimePodsError", "FieldError"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [file] = folder.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says about itself."""
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_description_suits_an_index_page(metadata: Message) -> None:
    """The wheel's description is the README; each link in it leads somewhere without the project's files."""
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert text.lstrip().startswith("# primepods")
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert "<!--" not in text


def required(metadata: Message) -> list[str]:
    """The names of what is installed with the package, without extras."""
    lines = [str(line) for line in metadata.get_all("Requires-Dist", [])]
    return sorted(re.split(r"[^\w-]", line)[0] for line in lines if "extra ==" not in line)


def test_users_are_offered_no_extra_of_developers(metadata: Message) -> None:
    """Linters and the like are groups; `test` is an extra for the README's command, with an old pip."""
    extras = {"airflow", "cli", "exporter", "mcp", "notebook", "otel", "prefect", "speed", "test"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


def test_public_names_are_pinned() -> None:
    """`primepods.__all__` is the list above, sorted, and each name is there."""
    assert list(vars(primepods)["__all__"]) == sorted(PUBLIC_NAMES)
    assert all(hasattr(primepods, name) for name in vars(primepods)["__all__"])


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for them alone is what the table has, each name from the same module."""
    source = ast.parse((ROOT / "primepods/__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in source.body if isinstance(node, ast.If)]
    seen = {"__version__": "_version"}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        names = [alias.name for alias in node.names]
        module = str(node.module)
        if names == ["*"]:
            names = importlib.import_module(f"primepods.{module}").__all__
        seen |= dict.fromkeys(names, module)
    assert seen == vars(primepods)["_MODULE_OF"]
    assert set(vars(primepods)["__all__"]) == set(dir(primepods)), "and nothing else"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "heavy"),
    [
        ("PodSpec", {"aiohttp", "asyncio", "cattrs", "primepods.client"}),
        ("NotFoundError", {"aiohttp", "asyncio", "attrs", "primepods.models"}),
        (
            "AsyncClient",
            {
                "primepods.sync",
                "primepods.leasing.pods_api",
                "primepods.models.account",
                "primepods.waiting.wait",
            },
        ),
        ("__version__", {"primepods.errors"}),
    ],
)
def test_a_name_loads_its_module_alone(name: str, heavy: set[str]) -> None:
    """An order made by hand does not wait for aiohttp, nor a client for what only renting needs."""
    check = f"import sys; from primepods import {name}; print(*{heavy} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ""


def test_core_needs_four_libraries(metadata: Message) -> None:
    """Without extras: aiohttp, anyio, attrs and cattrs, each with a lower bound and no upper one."""
    assert required(metadata) == ["aiohttp", "anyio", "attrs", "cattrs"]
    bounded = [line for line in metadata.get_all("Requires-Dist", []) if "<" in line]
    # Its next major version breaks imports, as its last did.
    assert {re.split(r"[^\w-]", line)[0] for line in bounded} == {"mcp"}
    assert metadata["Requires-Python"] == ">=3.11"


def test_version_is_one(metadata: Message) -> None:
    """Wheel and module name the same version; the changelog begins with it, or with what is to come."""
    assert metadata["Version"] == primepods.__version__
    newest = re.search(
        r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] in {"Unreleased", primepods.__version__}


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every module and script, the typing marker and the licence; no tests, no caches."""
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "primepods").rglob("*.py")}
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "primepods").rglob("*.sh")}
    assert len(scripts) == 9
    program = "primepods/emulator/bin/nvidia-smi"
    assert set(names) == {*modules, *scripts, program, "primepods/cli/skill.txt", "primepods/py.typed"}
    assert wheel.getinfo(program).external_attr >> 16 & 0o111 == 0o111
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


def test_import_loads_no_extra() -> None:
    """`import primepods` warns of nothing and needs neither the extras nor the emulator."""
    extras = {"typer", "rich", "pytest", "airflow", "prefect", "primepods.cli", "primepods.emulator"}
    check = f"import sys, primepods; print(*{extras} & set(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", check]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (found.stdout.strip(), found.stderr) == ("", "")


def test_the_emulators_names_are_there() -> None:
    """Each is imported at its first use, from the module that a table names."""
    names = vars(primepods.emulator)["__all__"]
    assert [name for name in names if not hasattr(primepods.emulator, name)] == []
