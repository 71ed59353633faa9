"""Compare the public names with those of the last release: exit code 1 if code that uses them would break.

    python .github/api_breaks.py            against the last tag before this commit that looks like v1.2.3

Breaks need a major release, before 1.0 a minor one: raise the version in `primepods/_version.py` first, and
say in `.github/docs/project/upgrading.md` what to do. Nothing of either version is imported.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

Loaded = griffe.Object | griffe.Alias
MODULES = ("charts", "emulator", "events", "fleet", "notebook", "otel")
"""Public modules, whose names are those of their table ``_PUBLIC``, or of their ``__all__``."""


def public_paths(package: Loaded) -> dict[str, str]:
    """Return where each public name of a version is defined: paths below the package, by name."""
    paths = lazy_names(package)
    for module in set(MODULES) & package.members.keys():
        names = lazy_names(package[module]) or package[module].exports or ()
        paths |= {f"{module}.{name}": f"{module}.{name}" for name in names}
    return paths


def lazy_names(module: Loaded) -> dict[str, str]:
    """Return where each name of a module's table ``_PUBLIC`` is defined; nothing if it has no table."""
    for node in ast.walk(ast.parse("\n".join(module.lines))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC":
            table: dict[str, str] = ast.literal_eval(node.value)
            return {name: f"{place}.{name}" for place, names in table.items() for name in names.split()}
    return {}


def breaks(old: Loaded, new: Loaded) -> Iterator[str]:
    """Yield a line for each way in which the new version breaks users of the old one."""
    now = public_paths(new)
    for name, path in sorted(public_paths(old).items()):
        if name not in now:
            yield f"{name}: is gone"
            continue
        before, after = definition(old[path]), definition(new[now[name]])
        # griffe compares modules; of what it finds, only this name is public here.
        for found in griffe.find_breaking_changes(before.module, after.module):
            if f"{found.obj.path}.".startswith(f"{before.path}."):
                inside = found.obj.path.removeprefix(before.path)
                yield f"{name}{inside}: {found.kind.value} ({found.old_value} -> {found.new_value})"


def definition(named: Loaded) -> griffe.Object:
    """Return the object that a name stands for."""
    return named.final_target if isinstance(named, griffe.Alias) else named


def last_tag(repository: Path) -> str | None:
    """Return the last release before this commit, or ``None``."""
    command = ["git", "-C", str(repository), "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def is_break_allowed(tag: str, new: Loaded) -> bool:
    """Return whether the version's first number, or before 1.0 its second one, is higher than the tag's."""
    version = str(new["_version.__version__"].value).strip("'\"")
    was, now = ([int(part) for part in re.findall(r"\d+", text)[:2]] for text in (tag, version))
    return now[0] > was[0] or (now[0] == was[0] == 0 and now[1] > was[1])


def main(repository: Path) -> int:
    """Compare, and print what is broken."""
    tag = last_tag(repository)
    if tag is None:
        print("Public names: there is no release to compare with.")
        return 0
    new = griffe.load("primepods", search_paths=[repository], try_relative_path=False)
    old = griffe.load_git("primepods", ref=tag, repo=repository)
    found = list(breaks(old, new))
    print(f"Public names: {len(found)} changes since {tag} break users.", *found, sep="\n  ")
    return 0 if not found or is_break_allowed(tag, new) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else ".")))
