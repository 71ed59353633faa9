"""What goes wrong while a client is made does not show the key."""

import traceback

import pytest

import primepods

KEY = "pit_construction_key_0123456789abcdef"


@pytest.mark.parametrize("kind", [primepods.AsyncClient, primepods.Client])
@pytest.mark.parametrize("wrong", [{"timeout": -1}, {"base_url": "nonsense"}, {"user_agent": "a\nb"}])
def test_a_client_that_cannot_be_built_does_not_show_the_key(
    kind: type[primepods.AsyncClient] | type[primepods.Client], wrong: dict[str, object]
) -> None:
    """No frame of ours holds the key as plain text, and a half-built client can be shown."""
    with pytest.raises((ValueError, primepods.ConfigError)) as caught:
        kind(KEY, **wrong)  # type: ignore[arg-type]  # wrong on purpose
    # The first frame is this test's, which knows the key itself.
    trace = caught.value.__traceback__
    assert trace is not None
    shown = traceback.TracebackException(type(caught.value), caught.value, trace.tb_next, capture_locals=True)
    text = "".join(shown.format())
    assert "not built" in text
    assert KEY not in text
