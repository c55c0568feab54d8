"""The operator's brand on the account page: its logo, colours and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from xml.parsers import expat

LINKS: Final = ("help", "privacy", "imprint")
MAX_NAME: Final = 60
MAX_LOGO_BYTES: Final = 256 * 1024
MIN_CONTRAST: Final = 4.5
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_WHITE: Final = (255, 255, 255)
_BLACK: Final = (0, 0, 0)
# The surfaces of the two schemes in account.css that have the least contrast with the brand's colours.
_LIGHT_SURFACE: Final = (245, 246, 248)
_DARK_SURFACE: Final = (23, 27, 34)
_STEPS: Final = 20
_LINEAR: Final = 0.04045
_NAME: Final = "must be a name of 1 to 60 characters"
_LOGO: Final = "must be the path of a PNG file, or of an SVG file without a DOCTYPE, of at most 256 KiB"
_COLOR: Final = "must be a colour such as #2a4bcc, or two with a comma, for the light and the dark scheme"
_LINKS: Final = f"must be a comma-separated list such as help=https://example.com/help of {', '.join(LINKS)}"

Color = tuple[int, int, int]


class Logo(NamedTuple):
    """A picture. Its type is that of its content, not that of its name."""

    media_type: str
    content: bytes

    def __repr__(self) -> str:
        return f"Logo({self.media_type}, {len(self.content)} bytes)"


class Palette(NamedTuple):
    """The brand's colour in the light and in the dark scheme."""

    light: Color
    dark: Color

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each scheme in which the colour can hardly be read."""
        for color, surface, scheme in ((self.light, _LIGHT_SURFACE, "light"), (self.dark, _DARK_SURFACE, "dark")):
            found = contrast(color, surface)
            if found < MIN_CONTRAST:
                yield f"has a contrast of {found:.1f} in the {scheme} scheme, and must have {MIN_CONTRAST}"

    def css(self) -> str:
        """Return the style sheet that sets the colours of account.css."""
        light = _rules(self.light, strong=_mix(self.light, _BLACK, 0.25), tint=_mix(self.light, _WHITE, 0.92))
        dark = _rules(self.dark, strong=_mix(self.dark, _WHITE, 0.3), tint=_mix(self.dark, _DARK_SURFACE, 0.85))
        return f"\n:root {{{light}}}\n@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}\n"


def contrast(one: Color, other: Color) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def name(raw: str) -> str:
    """Read the name of the brand."""
    _require(1 <= len(raw) <= MAX_NAME, _NAME)
    return raw


def logo(raw: str) -> Logo | None:
    """Read the file of the logo."""
    if not raw:
        return None
    try:
        with Path(raw).open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except (OSError, ValueError):
        raise ValueError(_LOGO) from None
    is_png = content.startswith(_PNG)
    _require(len(content) <= MAX_LOGO_BYTES and (is_png or _is_svg(content)), _LOGO)
    return Logo("image/png" if is_png else "image/svg+xml", content)


def palette(raw: str) -> Palette | None:
    """Read one colour, or one for the light scheme and one for the dark."""
    if not raw:
        return None
    _require(re.fullmatch(r"#[0-9a-f]{6}(?:\s*,\s*#[0-9a-f]{6})?", raw, re.IGNORECASE) is not None, _COLOR)
    light, *others = (_color(part) for part in raw.split(","))
    if not others:  # lighten it until it can be read in the dark
        steps = (_mix(light, _WHITE, step / _STEPS) for step in range(_STEPS + 1))
        others = [next(step for step in steps if contrast(step, _DARK_SURFACE) >= MIN_CONTRAST)]
    (dark,) = others
    return Palette(light, dark)


def links(raw: str) -> tuple[tuple[str, str], ...]:
    """Read the addresses of pages about the service, in the order of `LINKS`."""
    given = [part.strip().partition("=") for part in raw.split(",") if part.strip()]
    found = {kind: url for kind, _, url in given}
    is_valid = len(found) == len(given) and found.keys() <= set(LINKS) and all(map(_is_link, found.values()))
    _require(is_valid, _LINKS)
    return tuple((kind, found[kind]) for kind in LINKS if kind in found)


def _color(raw: str) -> Color:
    red, green, blue = bytes.fromhex(raw.strip().removeprefix("#"))
    return red, green, blue


def _require(condition: bool, sentence: str) -> None:  # noqa: FBT001 -- it reads as an assertion
    if not condition:
        raise ValueError(sentence)


def _is_link(url: str) -> bool:
    if re.fullmatch(r"mailto:[!-~]+@[a-z0-9.-]+", url, re.IGNORECASE):
        return True
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_plain = re.fullmatch(r"[!-\[\]-~]+", url) is not None and "@" not in parts.netloc
    return is_plain and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_svg(content: bytes) -> bool:
    """Whether this is an XML document with the root svg, and without entities."""
    roots: list[str] = []
    declared: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda tag, _: roots.append(tag)
    parser.StartDoctypeDeclHandler = lambda doctype, *_: declared.append(doctype)
    try:
        parser.Parse(content, True)  # noqa: FBT003 -- it has no keyword
    except expat.ExpatError:
        return False
    return not declared and roots[0] == "http://www.w3.org/2000/svg svg"


def _rules(accent: Color, strong: Color, tint: Color) -> str:
    on_accent = max((_WHITE, _BLACK), key=lambda color: contrast(color, accent))
    colors = {"accent": accent, "accent-strong": strong, "on-accent": on_accent, "tint": tint}
    return "".join(f" --{part}: #{bytes(color).hex()};" for part, color in colors.items()) + " "


def _mix(color: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(one * (1 - part) + two * part) for one, two in zip(color, other, strict=True))
    return red, green, blue


def _luminance(color: Color) -> float:
    parts = [part / 255 for part in color]
    red, green, blue = (part / 12.92 if part <= _LINEAR else float(((part + 0.055) / 1.055) ** 2.4) for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
