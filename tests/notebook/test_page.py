"""What a cell shows, and what is shown where there is no cell."""

import asyncio
import re
import sys
from html.parser import HTMLParser

import pytest

import primepods
from primepods import AsyncClient, Client, Pod
from primepods.emulator import Emulator
from primepods.fleet import Fleet
from primepods.notebook import _live, wait, watch
from primepods.notebook._page import bundle
from tests.fleet.changes import Timeline, change
from tests.support.eventually import eventually

EVIL = "<script>alert(1)</script>\n\x1b[2J"


class Tags(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def test_figures_pods_and_picture() -> None:
    """Counts and costs in a line; a row a pod, with its progress; the rest as a number."""
    fleet = Fleet([f"unseen{number}" for number in range(20)], now=Timeline())
    installing = change("p", "installing").after
    assert installing is not None
    row = primepods.PodStatus(pod_id="p", status=installing.status, installation_progress=40, cost_per_hr=2.0)
    fleet.add(primepods.PodChange(pod_id="p", before=None, after=row))
    fleet.add(change("gone", "gone"))
    page = bundle(fleet, "Watching")
    line = "Watching: 1 installing · 1 gone · 20 not seen · $2.00 an hour · $0.00 so far"
    assert page["text/plain"] == line
    tags = Tags(page["text/html"])
    assert {"and 10 more", "40 %", "Pods by condition (UTC)"} <= set(tags.texts)
    assert tags.tags.count("tr") == 13
    assert tags.tags.count("svg") == 1


def test_before_the_first_answer() -> None:
    """Nothing is made up."""
    fleet = Fleet()
    line = "Watching: no pod seen yet · $0.00 an hour · $0.00 so far"
    assert bundle(fleet, "Watching")["text/plain"] == line
    fleet.listed = True
    assert bundle(fleet, "Watching")["text/plain"] == line.replace("pod seen yet", "pods")
    assert "svg" not in Tags(bundle(Fleet(["a"]), "Watching")["text/html"]).tags


def test_what_the_server_says_is_text() -> None:
    """Names, ids, reasons and errors cannot bring markup into the page."""
    fleet = Fleet([Pod(id=EVIL, name=EVIL, gpu_name=EVIL, gpu_count=1, price_hr=1.0, provider_type="x")])
    state = primepods.PodStatus(pod_id=EVIL, status=primepods.PodState.ERROR, installation_failure=EVIL)
    fleet.add(primepods.PodChange(pod_id=EVIL, before=None, after=state))
    fleet.trouble = primepods.PrimePodsError(EVIL)
    page = bundle(fleet, EVIL)
    assert "script" not in Tags(page["text/html"]).tags
    assert "\x1b" not in page["text/html"]


def test_in_a_script_it_is_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A notebook's code that runs without one prints a line where a cell would be redrawn."""
    pytest.importorskip("IPython", reason="the extra `notebook` is not installed")
    with (
        Emulator(pods=3, boot_seconds=0) as emulator,
        Client(emulator.api_key, base_url=emulator.url) as client,
    ):
        statuses = wait(client, client.pods.page())
        assert len(statuses) == 3
        first, *_, last = capsys.readouterr().out.splitlines()
        wait(client, list(emulator.pods)[:1], until=lambda _: True)
    assert capsys.readouterr().out.startswith("Waiting for 1 pod until done · 0:00: ")
    assert first.startswith("Waiting for 3 pods until ready · 0:00: 3 not seen")
    assert re.match(r"Waiting for 3 pods until ready · ended after 0:0\d: 3 ready · \$[\d.]+ an hour", last)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (["pod"], {}, TypeError),
        ([["."]], {}, ValueError),
        ([None], {"interval": 0}, ValueError),
        ([None], {"duration": -1}, ValueError),
    ],
)
def test_bad_arguments_show_nothing(
    arguments: list[object],
    options: dict[str, float],
    error: type[Exception],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused at the call, before anything is shown or awaited."""
    client = AsyncClient("key", base_url="http://127.0.0.1:9")
    with pytest.raises(error):
        watch(client, *arguments, **options)  # type: ignore[call-overload] # what a careless caller passes
    assert capsys.readouterr().out == ""


async def test_a_display_that_fails_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch goes on, and is drawn again; at its end, the call's result remains."""
    pytest.importorskip("IPython", reason="the extra `notebook` is not installed")
    updates = []
    is_gone = False

    class Broken:
        def update(self, page: dict[str, str], *, raw: bool) -> None:
            updates.append((page, raw))
            if len(updates) < 4 or is_gone:
                raise OSError("no front end")

    monkeypatch.setattr("IPython.get_ipython", Broken)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Broken())
    monkeypatch.setattr(_live, "_MIN_DRAW_INTERVAL", 0.01)
    monkeypatch.setattr(_live, "_MAX_DRAW_INTERVAL", 0.0)
    async with Emulator() as emulator, AsyncClient(emulator.api_key, base_url=emulator.url) as client:
        task = asyncio.create_task(watch(client))
        await eventually(lambda: len(updates) > 4)
        task.cancel()
        await asyncio.wait([task])
        is_gone = True
        monkeypatch.setattr(_live, "_MIN_DRAW_INTERVAL", 60.0)
        assert await watch(client, duration=0.01) is not None
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["The view cannot be redrawn: OSError('no front end')"] * 2


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is named; no coroutine is left that was never awaited."""
    monkeypatch.setitem(sys.modules, "IPython", None)
    with (
        Client("key", base_url="http://127.0.0.1:9") as client,
        pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[notebook\]'"),
    ):
        watch(client)
    with pytest.raises(ModuleNotFoundError):
        asyncio.run(watch(AsyncClient("key", base_url="http://127.0.0.1:9")))
