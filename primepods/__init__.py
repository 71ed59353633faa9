"""primepods: run GPU pods on Prime Intellect, awaited or called.

``AsyncClient`` is where everything begins; the README shows how. The names stand in five modules, each
imported at the first use of one of its names: the command's ``--help``, a pytest run that uses none of our
fixtures and others that only import the package do not wait for aiohttp, nor programs that rent nothing for
what renting needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    # Type checkers see the names as if they stood here.
    from . import _public, _public_blocking, _public_renting, errors, models
    from ._public import *  # noqa: F403 - as said
    from ._public_blocking import *  # noqa: F403 - as said
    from ._public_renting import *  # noqa: F403 - as said
    from .errors import *  # noqa: F403 - as said
    from .models import *  # noqa: F403 - as said

    __all__: list[str] = []
    __all__ += errors.__all__
    __all__ += models.__all__
    __all__ += _public.__all__
    __all__ += _public_blocking.__all__
    __all__ += _public_renting.__all__
else:
    _MODULES = (".errors", ".models", "._public", "._public_renting", "._public_blocking")

    def __getattr__(name: str) -> Any:
        """Load the names of one module after the other, until the one that is asked for is there."""
        if name == "__all__":
            return sorted(public for module in _MODULES for public in import_module(module, __name__).__all__)
        if not name.startswith("_"):
            for module in _MODULES:
                names = import_module(module, __name__)
                globals().update({public: getattr(names, public) for public in names.__all__})
                if name in globals():
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
