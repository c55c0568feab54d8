"""Join the modules of a page into one, so that a slow connection loads one file."""

import re
from pathlib import Path
from typing import Final

_IMPORT: Final = re.compile(r'^import \{([^}]*)\} from "([./\w-]+)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
_COMMENT: Final = re.compile(r"^ *(?://.*|/\*\*(?:.|\n)*?\*/)\n", re.MULTILINE)
_OTHER: Final = re.compile(r"^(?:import|export)\b.*|\bimport\(.*", re.MULTILINE)


def join(entry: Path) -> str:
    """Return a script that does what `entry` does with the modules it imports.

    Each module becomes a function, which returns what the module exports. Comments inside of a module are left out.
    Nothing else is changed: the files are the source that developers read, and they work as modules too.

    Raises:
        ValueError: for imports in a circle, and forms of import and export other than those used here.
    """
    joined: dict[Path, str] = {}
    _add(entry.resolve(), joined, ())
    return "".join(joined.values())


def _add(path: Path, joined: dict[Path, str], importers: tuple[Path, ...]) -> str:
    """Add a module after those that it imports, and return its name."""
    name = "$" + re.sub(r"\W", "_", path.stem)
    if path in importers:
        msg = f"{path.name} imports itself"
        raise ValueError(msg)
    if path in joined:
        return name

    def bind(match: re.Match[str]) -> str:
        module = _add((path.parent / match[2]).resolve(), joined, (*importers, path))
        return f"const {{{match[1].replace(' as ', ': ')}}} = {module};\n"

    source = _IMPORT.sub(bind, path.read_text(encoding="utf-8"))
    source = _COMMENT.sub("", source)
    exported = [match[2] for match in _EXPORT.finditer(source)]
    source = _EXPORT.sub(r"\1 \2", source)
    other = _OTHER.search(source)
    if other:
        msg = f"{path.name}: {other[0]}"
        raise ValueError(msg)
    joined[path] = f"const {name} = (() => {{\n{source}return {{ {', '.join(exported)} }};\n}})();\n"
    return name
