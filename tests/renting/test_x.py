import asyncio, pytest
from tests.renting.stage import stage
pytestmark = pytest.mark.anyio
@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path)); return tmp_path
async def work(p, i): return i
async def test_a(folder, caplog):
    async with stage(folder) as it:
        async def main():
            async with it.client.pods.pool(it.spec, size=3) as pool:
                r=pool.map(work, range(3)); await anext(r)
        t = asyncio.create_task(main())
        await it.clock.sleep(61)
        await t
        assert not caplog.records, caplog.text
        return
        with pytest.raises(asyncio.CancelledError):
            await t
        assert not caplog.records, caplog.text
