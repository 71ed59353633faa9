"""Sphinx extension: the reference, from the table of public names and the docstrings.

In a page, these lines stand for what is generated:

    <!-- public: client resources.pods -->      the names of ``primepods`` that these modules define
    <!-- module: primepods.fleet -->            the names in a module's ``__all__``
    <!-- errors -->                             the catalogue of errors
"""

from __future__ import annotations

import builtins
import collections.abc
import inspect
import re
import sys
import typing
from collections.abc import Iterable
from importlib import import_module
from textwrap import indent
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

import primepods
from primepods import errors
from primepods.emulator import EmulatedPod, Fault

_PLACE = re.compile(r"^<!-- (public|module|errors)(?:: (.*))? -->$", re.MULTILINE)
# Classes whose constructor users call; the others are results of calls, and their constructors are internal.
_CONSTRUCTED = {
    "AsyncClient",
    "Client",
    "Emulator",
    "Fleet",
    "ManualClock",
    "PodSpec",
    "RetryPolicy",
}
_DOCUMENTED = ("primepods", "primepods.emulator", "primepods.events", "primepods.fleet")
_TYPE_VARIABLE = re.compile(r"[A-Z](_co)?")
_EXTERNAL = {"IPython", "aiohttp", "anyio", "attrs", "pytest"}
_ALIASES = ("OnChange", "OnEvent", "OnLine", "OnProgress", "PodRef", "Until")
_BASES = "Mapping, Sequence, Exception, str, Enum, Generic, dict, tuple"
"""Classes whose members are not repeated in the entries of classes derived from them."""
_SEEN = "primepods_public_names"


def public_names(modules: list[str]) -> list[str]:
    """Return the public names that these modules define."""
    table = primepods._MODULE_OF
    return [name for module in modules for name, where in table.items() if where == module]


def entry(module: str, name: str) -> str:
    """Return the directive that documents a public name of a module."""
    value = getattr(import_module(module), name)
    path = f"{module}.{name}"
    if inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    if not isinstance(value, type):
        # A text, such as a script, may have many lines.
        spelled = "str" if isinstance(value, str) else stringify_annotation(value, "smart")
        spelled = re.sub(r"~?(\w+\.)+", "", spelled)
        return f".. py:data:: {path}\n   :value: {spelled}\n\n{indent(_data_docstring(name), '   ')}\n"
    if issubclass(value, BaseException):
        return f".. autoexception:: {path}\n   :members:\n   :show-inheritance:\n"
    if issubclass(value, (Fault, tuple)):
        return f".. autoclass:: {path}\n"
    options = [":members:", f":inherited-members: {_BASES}", ":exclude-members: to_dict"]
    options += [":undoc-members:"] if value is EmulatedPod else []  # its fields speak for themselves
    return "\n   ".join([f".. autoclass:: {path}", *options]) + "\n"


def _data_docstring(name: str) -> str:
    """Return the docstring of a type alias, from the module that defines it."""
    modules = [module for module in sys.modules if module.startswith("primepods.")]
    for module in modules:
        found = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
        if found is not None:
            return "\n".join(found)
    raise ExtensionError(f"{name} has no docstring.")


def error_table() -> str:
    """Return a Markdown table of all errors: what each means, and its remedy, or that of its base class."""
    lines = ["| Error | Meaning | Remedy |", "|---|---|---|"]
    remedies: dict[type[Exception], str] = {}
    for kind in _errors(errors.PrimePodsError):
        meaning, _, rest = (inspect.getdoc(kind) or "").partition("\n")
        found = re.search(r"^Remedy:\n((?:    .*\n?)+)", rest, re.MULTILINE)
        remedy = remedies[kind] = " ".join(found[1].split()) if found else remedies[kind.__bases__[0]]
        lines.append(f"| {{exc}}`~primepods.{kind.__name__}` | {_code(meaning)} | {_code(remedy)} |")
    return "\n".join(lines) + "\n"


def _errors(kind: type[Exception]) -> list[type[Exception]]:
    """Return an error class and those derived from it, as a tree is read."""
    return [kind, *(below for child in kind.__subclasses__() for below in _errors(child))]


def _code(text: str) -> str:
    """Return reStructuredText of a docstring as Markdown."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", r"\|")


def _read_page(app: Sphinx, _page: str, content: list[str]) -> None:
    seen: set[str] = getattr(app, _SEEN)

    def filled(place: re.Match[str]) -> str:
        if place[1] == "errors":
            return error_table()
        if place[1] == "module":
            names = set(import_module(place[2]).__all__) - set(primepods.__all__)
            entries = [entry(place[2], name) for name in _ordered(names)]
        else:
            seen.update(place[2].split())
            entries = [entry("primepods", name) for name in _ordered(public_names(place[2].split()))]
        return "".join(f"````{{eval-rst}}\n{text}````\n\n" for text in entries)

    content[0] = _PLACE.sub(filled, content[0])


def _ordered(names: Iterable[str]) -> list[str]:
    """Return names by alphabet, but first those of classes that users construct."""
    return sorted(names, key=lambda name: (name not in _CONSTRUCTED, name))


def _check_all_documented(app: Sphinx, _env: BuildEnvironment) -> None:
    left = {*primepods._MODULE_OF.values()} - getattr(app, _SEEN) - {"_version"}
    if left:
        raise ExtensionError(f"No page of the reference names the modules {sorted(left)}: add them to one.")


def _signature(
    _app: Sphinx,
    what: str,
    name: str,
    value: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Hide the constructors of classes that users do not construct; show type aliases by their names."""
    if signature is None:
        return None
    is_fault = isinstance(value, type) and issubclass(value, Fault)
    if what in {"class", "exception"} and not is_fault and name.rpartition(".")[2] not in _CONSTRUCTED:
        return "", ""
    for alias in _ALIASES:
        spelled = stringify_annotation(getattr(primepods, alias), "smart")
        signature = signature.replace(spelled, f"~primepods.{alias}")
    # What Python cannot read: a function as a default, and the mark of attrs for a new dict.
    signature = re.sub(r"<function (\w+)[^>]*>", r"\1", signature).replace("= NOTHING", "= {}")
    return signature, returns


def _docstring(
    _app: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Keep napoleon from reading the words before a colon as the type of an attribute."""
    if what in {"attribute", "data", "property"}:
        lines.insert(0, "\\ ")  # invisible


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Node | None:
    """Link a name from a private module to its public entry; leave names from elsewhere without a link."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    last = target.rpartition(".")[2]
    is_known = any(hasattr(module, last) for module in (builtins, typing, collections.abc))
    if (is_known and "." not in target) or _TYPE_VARIABLE.fullmatch(last):
        return shown
    if target.partition(".")[0] in _EXTERNAL | sys.stdlib_module_names:
        return shown
    domain = env.domains.python_domain
    for path in (f"{module}.{last}" for module in _DOCUMENTED):
        if path in domain.objects and path != target:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", path, node, shown)
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    setattr(app, _SEEN, set())
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as the docstrings say
    app.connect("source-read", _read_page)
    app.connect("env-check-consistency", _check_all_documented)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    app.connect("missing-reference", _resolve)
    return {}
