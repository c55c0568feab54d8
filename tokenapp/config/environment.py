"""Find the text of each setting: in its variable or, for a secret, in a file."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tokenapp.config.settings import FILE_SETTINGS, SETTINGS

WITHOUT_QUOTES: Final = "must be written without quotes"
# What Kubernetes sets for the Services tokenapp and tokenapp-web, and Docker for links to such containers.
_PLATFORM: Final = re.compile(
    r"TOKENAPP(_[A-Z0-9_]+)?_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)"
    r"|TOKENAPP(_[A-Z0-9_]+)?_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?"
    r"|TOKENAPP(_\d+)?_(NAME|ENV_.+)"
)
_PLATFORM_PORT: Final = re.compile(r"TOKENAPP(_[A-Z0-9_]+)?_PORT")
_PORT_URL: Final = re.compile(r"(tcp|udp|sctp)://.+")
_QUOTES: Final = "\"'`\u201c\u201d\u201e\u2018\u2019"  # straight, backtick, and those of word processors
_NO_QUOTES: Final = str.maketrans("", "", _QUOTES)
_INVISIBLE: Final = {"Cc", "Cf", "Zl", "Zp", "Zs"}
_BOM: Final = b"\xef\xbb\xbf"
_BOMS_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def find_unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for every unknown variable that begins like a setting."""
    known = {setting.name for setting in SETTINGS} | FILE_SETTINGS
    for name in sorted(name for name in environ if name.startswith("TOKENAPP_")):
        if name not in known and not _is_of_platform(name, environ[name]):
            yield f"{name} is not a setting" + (": use PORT" if name == "TOKENAPP_PORT" else "")


def read(environ: Mapping[str, str], problems: list[str]) -> dict[str, str | None]:
    """Return the text of each setting, or None if there was a problem with it."""
    texts: dict[str, str | None] = {}
    for setting in SETTINGS:
        try:
            texts[setting.name] = _find(setting.name, environ)
        except ValueError as error:
            problems.append(str(error))
            texts[setting.name] = None
    return texts


def without_quotes(text: str) -> str:
    """Remove all quotation marks from `text`."""
    return text.translate(_NO_QUOTES)


def _is_of_platform(name: str, value: str) -> bool:
    if name == "TOKENAPP_PORT":
        return not value.strip().isdecimal()
    is_port = _PLATFORM_PORT.fullmatch(name) and _PORT_URL.fullmatch(value)
    return bool(is_port or _PLATFORM.fullmatch(name))


def _find(name: str, environ: Mapping[str, str]) -> str:
    file_setting = f"{name}_FILE"
    text = _checked(name, environ.get(name, ""))
    path = _checked(file_setting, environ.get(file_setting, "")) if file_setting in FILE_SETTINGS else ""
    if text and path:
        message = f"{name} and {file_setting} are both set"
        raise ValueError(message)
    if not path:
        return text
    text = _checked(f"{file_setting} cannot be read: its text", _read_file(file_setting, path))
    if not text:
        message = f"{file_setting} cannot be read: it is empty"
        raise ValueError(message)
    return text


def _checked(label: str, text: str) -> str:
    """Return `text` without white space around it.

    Raises:
        ValueError: it is in quotes, or contains an invisible character.
    """
    text = text.strip()
    invisible = next((each for each in text if each != " " and unicodedata.category(each) in _INVISIBLE), None)
    if invisible is not None:
        message = f"{label} contains the invisible character U+{ord(invisible):04X}"
        raise ValueError(message)
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        message = f"{label} {WITHOUT_QUOTES}"
        raise ValueError(message)
    return text


def _read_file(file_setting: str, path: str) -> str:
    problem = None
    raw = b""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        problem = "the file does not exist"
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "its name is not valid"
    if raw.startswith(_BOM):
        problem = "it begins with a byte order mark (BOM); save it as UTF-8 without one"
    elif raw.startswith(_BOMS_UTF16) or b"\0" in raw:
        problem = "it is UTF-16 text; save it as UTF-8"
    if problem is None:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            problem = "it is not UTF-8 text"
    message = f"{file_setting} cannot be read: {problem}"
    raise ValueError(message) from None
