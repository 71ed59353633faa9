"""primepods: run GPU pods on Prime Intellect, awaited or called.

``AsyncClient`` is where everything begins; the README shows how. The names stand in ``_public.py``, which is
imported at the first use of one: the command's ``--help``, a pytest run that uses none of our fixtures and
others that only import the package do not wait for aiohttp.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._public import *  # noqa: F403 - type checkers see the names as if they stood here
    from ._public import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        """Load all public names when the first of them is asked for."""
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _public  # noqa: PLC0415 - the reason for this function

        names = {public: getattr(_public, public) for public in _public.__all__}
        globals().update(names, __all__=_public.__all__)
        try:
            return globals()[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        __getattr__("__all__")
        return sorted(globals())
