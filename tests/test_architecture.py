"""The rooms of the package, the arrows between them, read from its imports, and the papers that name them."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from primepods.leasing._order import OrderState
from tests.readme_blocks import PAPERS, find_blocks
from tests.readme_blocks import ROOT as PROJECT

ROOT = Path(__file__).parent.parent / "primepods"


def table(text: str) -> dict[str, set[str]]:
    """Rows such as `models: _utils ssh`; a row goes on in indented lines."""
    rows = (row.partition(":") for row in text.replace("\n    ", " ").strip().splitlines())
    return {name: set(words.split()) for name, _, words in rows}


# What each room of ours imports, lowest first: a module, or a package with all that is in it.
ARROWS = table("""
_version:
emulator:
_utils:
events: _utils
_operations: _utils events
signals:
ssh: _utils
models: _utils ssh
specs: _utils models
errors: _utils models
pagination: _utils errors models
results: _utils errors models
retry: _utils
_decoding: _utils models
config: _operations _utils errors retry
_http: _decoding _operations _utils _version config errors retry
_status_reader: _decoding _http _operations _utils errors models
waiting: _decoding _http _operations _status_reader _utils config errors models results retry
remote: _utils config errors models ssh
leasing: _operations _utils config errors models pagination remote specs ssh waiting
resources: _decoding _http _operations _status_reader _utils config errors leasing models
    pagination remote results specs waiting
client: _http _operations _utils config events leasing resources retry waiting
fleet: _utils client errors models
charts: _utils fleet models
sync: _utils client config errors events leasing models pagination remote resources retry specs waiting
notebook: _utils charts client fleet models results sync waiting
__init__: _version client errors events leasing models pagination remote resources results retry signals
    specs ssh sync waiting
otel: _version events
exporter: _utils client errors runs
airflow: __init__ events
prefect: __init__
doctor: _http _utils _version client config errors leasing models resources retry
runs: _utils client config errors leasing models remote specs
cli: __init__ _utils charts config doctor emulator events exporter fleet remote runs
__main__: cli
pytest_plugin: __init__ emulator
""")

# The same within the emulator: the state below, the API above it, the sockets on top.
EMULATOR = table("""
local_ssh:
nvidia_smi:
clock:
requestlog:
_state: clock
_api: _state clock local_ssh
faults: _api
faultplan: _api _state clock faults
control: _api _state faultplan faults requestlog
_server: _api clock control faultplan faults requestlog
emulator: _api _server _state clock control faultplan requestlog
__init__: _state clock emulator faultplan faults requestlog
""")

TABLES = {"primepods": ARROWS, "primepods.emulator": EMULATOR}

# Rooms that call the package as its users do.
CALLERS = {"airflow", "cli", "prefect", "pytest_plugin"}

# Who may import what is not ours, besides attrs. Everything else of PyPI is for nobody.
LIBRARIES = table("""
aiohttp: _http client emulator sync
yarl: _http
cattrs: _decoding
anyio: sync cli leasing prefect remote
airflow: airflow
asgiref: airflow
opentelemetry: otel
prefect: prefect
mcp: cli
pydantic: cli prefect
httpx: prefect
orjson: _utils
prometheus_client: exporter
pathspec: cli
typer: cli
click: cli
rich: cli
pytest: pytest_plugin
""")

MODULES = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.py"))


def dotted(path: str) -> str:
    """`resources/pods` gives `resources.pods`, `emulator/__init__` `emulator`, `__init__` the empty name."""
    return path.replace("/", ".").removesuffix("__init__").rstrip(".")


def room(module: str) -> str:
    """The row of the table that a module belongs to."""
    return module.split(".", maxsplit=1)[0] or "__init__"


def rooms(package: str) -> dict[str, list[str]]:
    """The modules of a package, by their rooms."""
    found: dict[str, list[str]] = {}
    for path in MODULES:
        name = f"primepods.{dotted(path)}".rstrip(".")
        if f"{name}.".startswith(f"{package}."):
            found.setdefault(room(name.removeprefix(package).lstrip(".")), []).append(path)
    return found


@cache
def tree(path: str) -> ast.Module:
    """The module's syntax."""
    return ast.parse((ROOT / f"{path}.py").read_text(encoding="utf-8"))


OURS = {f"primepods.{dotted(path)}".rstrip(".") for path in MODULES}


@cache
def imports(path: str) -> frozenset[str]:
    """Every module that a module imports, anywhere in it; ours as `primepods` or `primepods.x.y`."""
    return frozenset(find_imports(path))


def find_imports(path: str) -> Iterator[str]:
    """The same, one by one."""
    here = ["primepods", *path.split("/")[:-1]]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = here[: len(here) + 1 - node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from . import errors` names a module, `from .errors import APIError` a thing in one.
                longer = f"{base}.{alias.name}"
                yield longer if longer in OURS else base


def arrows(package: str, name: str) -> set[str]:
    """The other rooms of a package that a room of it looks into."""
    names = {found for path in rooms(package)[name] for found in imports(path)}
    inside = [found for found in names if f"{found}.".startswith(f"{package}.")]
    return {room(found.removeprefix(package).lstrip(".")) for found in inside} - {name}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in TABLES for name in sorted(rooms(package))]
)
def test_rooms_import_what_the_table_says(package: str, name: str) -> None:
    """Nothing more, and nothing less: an arrow that nothing uses goes."""
    assert arrows(package, name) == TABLES[package].get(name), f"what may {package}.{name} import?"


def test_a_module_with_an_underscore_is_its_folders() -> None:
    """Other folders import what has none; the rooms at the top with one are private to the package."""
    outside = {
        (path, name)
        for path in MODULES
        for name in imports(path)
        if name.startswith("primepods.") and name.count(".") > 1 and name.rpartition(".")[2].startswith("_")
        if not f"primepods.{dotted(path)}".startswith(name.rpartition(".")[0])
    }
    assert outside == set()


def test_libraries_are_known_in_one_place() -> None:
    """Each library has its few importers; nothing else of PyPI is used at all."""
    for path in MODULES:
        names = {name.split(".")[0] for name in imports(path)}
        for name in names - {"primepods", "attrs", *sys.stdlib_module_names}:
            assert room(dotted(path)) in LIBRARIES.get(name, set()), (path, name)


@pytest.mark.parametrize("package", TABLES)
def test_the_table_itself_has_no_circle(package: str) -> None:
    """Along the arrows nobody comes back to where they started."""
    done: set[str] = set()
    left = dict(TABLES[package])
    while left:
        free = {name for name, seen in left.items() if seen <= done}
        assert free, f"a circle among {sorted(left)}"
        done |= free
        left = {name: seen for name, seen in left.items() if name not in done}


ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "expanduser"}
FILES = {"open", "pathlib", "read_bytes", "read_text"}


def test_only_config_reads_the_environment_and_files() -> None:
    """Where a setting comes from is decided there; snapshots, leases and output are files, too."""
    for path in MODULES:
        place = room(dotted(path))
        own_files = path == "_utils/files" or place in {
            "airflow",
            "cli",
            "doctor",
            "emulator",
            "leasing",
            "remote",
            "runs",
        }
        reading = set() if place == "config" else ENVIRONMENT if own_files else ENVIRONMENT | FILES
        nodes = list(ast.walk(tree(path)))
        attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert reading & (attributes | names | imports(path)) == set(), path


# `runs` is the command's own; the last two have the formats of the library's messages.
_ROOMS = "charts config doctor emulator events exporter fleet remote runs _utils.money _utils.text"
PUBLIC = {"primepods", *(f"primepods.{name}" for name in _ROOMS.split())}


def test_the_command_is_a_caller_like_any_other() -> None:
    """Command, provider and plugin use the public names of the package and of the emulator, and no others."""
    for path in (path for path in MODULES if room(dotted(path)) in CALLERS):
        own = f"primepods.{room(dotted(path))}"
        ours = {name for name in imports(path) if name.split(".")[0] == "primepods"}
        assert {name for name in ours if not name.startswith(own)} <= PUBLIC, path
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "primepods":
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], path


def test_the_tree_is_the_one_that_there_is() -> None:
    """CONTRIBUTING.md has a line for each folder and each module of the package, and for no others."""
    paper = (PROJECT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    [block] = [block for block in find_blocks(paper) if block.section == "The tree"]
    named, above = set[str](), list[str]()
    for line in block.text.splitlines():
        above[(len(line) - len(line.lstrip())) // 2 :] = [line.split()[0]]
        named.add("".join(above))
    modules = {path.relative_to(PROJECT).as_posix() for path in ROOT.glob("*.py")}
    folders = {
        f"{path.parent.relative_to(PROJECT).as_posix()}/"
        for top in ("primepods", "benchmarks", "tests")
        for path in (PROJECT / top).rglob("*.*")
        if path.suffix in {".py", ".json"}
    }
    assert named == modules | folders


def test_the_states_of_an_order_are_those_of_the_code() -> None:
    """The table of transitions in CONTRIBUTING.md names each state of a lease's order, and no other."""
    paper = (PROJECT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \|[^|]*\| `(\w+)` \|", paper, re.MULTILINE)
    named = {state for before, after in rows for state in (*re.findall(r"`(\w+)`", before), after)}
    assert named == {state.name for state in OrderState}


def test_what_papers_name_is_there() -> None:
    """Files, tests and links; and each line of a table of promises names its test, or says "untested"."""
    promises = 0
    for paper in PAPERS:
        text = paper.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:primepods|tests|benchmarks|\.github|\.ci)/[\w./-]*)", text):
            assert (PROJECT / path).exists(), (paper.name, path)
        for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
            source = (PROJECT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), (paper.name, path, test)
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in target or (paper.parent / target).exists(), (paper.name, target)
        for rows in re.findall(r"\| Test \|\n\|[-|]+\n((?:\|.*\n?)+)", text):
            for promise in rows.splitlines():
                assert re.search(r"(`tests/\S+\.py::test_\w+`|untested) \|$", promise), (paper.name, promise)
                promises += 1
    assert promises > 100
