"""The files ``.env`` and ``.flaskenv``, for the server and the commands alike.

Flask reads them for its commands, and looks for them in the parent folders too. A server does not look there, and a
setting from a forgotten file must not send the commands to another database.
"""

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from tokenapp.config import ConfigError
from tokenapp.config.settings import FILE_SETTINGS, SETTINGS

_NAMES: Final = (".env", ".flaskenv")  # the first has precedence, as for Flask
_SETTINGS: Final = frozenset(setting.name for setting in SETTINGS) | FILE_SETTINGS
_SECRETS: Final = frozenset(setting.name for setting in SETTINGS if setting.secret)


def load() -> None:
    """Add the variables of the current folder's files to the environment.

    Variables that are set already have precedence.

    Raises:
        ConfigError: a file cannot be read.
    """
    if not _skipped():
        for name in _NAMES:
            for variable, value in _read(Path(name)).items():
                try:
                    os.environ.setdefault(variable, value)
                except (OSError, ValueError):
                    problem = f"{variable!r} or its value has a character that no variable can have"
                    raise _unreadable(Path(name), problem) from None


def find_secrets() -> list[Path]:
    """Return the files of the current folder that set a secret.

    Raises:
        ConfigError: a file cannot be read.
    """
    return [] if _skipped() else [Path(name) for name in _NAMES if _SECRETS & _read(Path(name)).keys()]


def check_parents() -> None:
    """Check that Flask read no setting from a file in a parent folder.

    Raises:
        ConfigError: with those settings.
    """
    problems = [] if _skipped() else [problem for name in _NAMES for problem in _find_foreign(name)]
    if problems:
        raise ConfigError(problems)


def _find_foreign(name: str) -> Iterator[str]:
    here = Path.cwd()
    path = next((folder / name for folder in (here, *here.parents) if (folder / name).is_file()), None)
    if path is None or path.parent == here:
        return
    for variable, value in _read(path).items():
        if variable in _SETTINGS and os.environ.get(variable) == value:
            yield f"{variable} is from {path}: move that file to the current folder, or set FLASK_SKIP_DOTENV=1"


def _read(path: Path) -> Mapping[str, str]:
    if not os.path.lexists(path) or (path / "pyvenv.cfg").is_file():  # .env may be a virtual environment
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from None
    if "\0" in text:
        raise _unreadable(path, "it contains U+0000, as UTF-16 text does; save it as UTF-8")
    for each in parse_stream(io.StringIO(text)):
        if each.error:
            line = each.original.line + each.original.string[: -len(each.original.string.lstrip())].count("\n")
            raise _unreadable(path, f"line {line} is not NAME=value")
    values = dotenv_values(stream=io.StringIO(text))
    return {variable: value for variable, value in values.items() if value is not None}


def _unreadable(path: Path, problem: str) -> ConfigError:
    return ConfigError([f"{path} cannot be read: {problem}"])


def _skipped() -> bool:
    """Return whether ``FLASK_SKIP_DOTENV`` is set, as Flask reads it."""
    return os.environ.get("FLASK_SKIP_DOTENV", "").lower() not in {"", "0", "false", "no"}
