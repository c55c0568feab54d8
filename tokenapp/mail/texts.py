"""The texts of mails: one per kind and language, as plain text and as HTML."""

from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tokenapp import config
from tokenapp.mail.outbox import Content

LANGUAGES: Final = ("en", "de", "fr", "es", "ar")
_FOLDER: Final = Path(__file__).with_name("languages")
RIGHT_TO_LEFT: Final = frozenset({"ar"})
_NO_BRAND: Final = "tokenapp"  # the default of the setting
_STYLE: Final = """
body { margin: 0; background: #f4f5f7; color: #1c2430; font: 16px/1.5 system-ui, sans-serif; }
.card { background: #ffffff; border-radius: 8px; }
.button { background: #1f5fbf; border-radius: 6px; }
.button a { color: #ffffff; display: inline-block; padding: 12px 20px; text-decoration: none; }
.small { color: #5a6472; font-size: 13px; }
bdi { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #e6e9ee; }
  .card { background: #1e242d; }
  .button { background: #6ea3f0; }
  .button a { color: #10151c; }
  .small { color: #a3adba; }
  a { color: #8fb8f5; }
}
"""


class Text(msgspec.Struct, frozen=True):
    """One kind of mail in one language: the link is after the first line of `body`."""

    subject: str
    body: tuple[str, ...]
    button: str


def language_of(preferred: str | None) -> str:
    """Return the language of mails to someone, given a locale or ``Accept-Language``."""
    for part in (preferred or "").split(","):
        code = part.partition(";")[0].strip().lower().replace("_", "-").partition("-")[0]
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]


def render(kind: str, to: str | None, language: str, *, link: str | None = None, **values: str) -> Content:
    """Return the content of a mail in a language.

    Args:
        to: the recipient; None for a mail that is not sent.
        link: the fragment of the link, such as ``reset=TOKEN``; the account page without one.
        values: what the text mentions.
    """
    text = texts_of(language)[kind]
    settings = config.current()
    brand = brand_name()
    url = f"{settings.issuer}/account" + (f"#{link}" if link else "")
    given = {"brand": brand, **values}
    subject = " ".join(text.subject.format_map(given).split())
    lines = [line.format_map(given) for line in text.body]
    plain = "\n\n".join([*lines[:1], *([url] if text.button else []), *lines[1:], f"-- \n{brand}\n{settings.issuer}"])
    isolated = {key: f"<bdi>{escape(value)}</bdi>" for key, value in given.items()}
    paragraphs = [escape(line).format_map(isolated) for line in text.body]
    return Content(to, subject, plain + "\n", _html(subject, paragraphs, text.button, url, language), language)


@cache
def texts_of(language: str) -> dict[str, Text]:
    """Return the texts in a language, by kind."""
    return msgspec.json.decode((_FOLDER / f"{language}.json").read_bytes(), type=dict[str, Text])


def brand_name() -> str:
    """Return the name under which mail is sent."""
    settings = config.current()
    named = settings.mail_from.name if settings.mail_from else ""
    brand = settings.brand_name if settings.brand_name != _NO_BRAND else ""
    return named or brand or urlsplit(settings.issuer).hostname or "tokenapp"


def moment(now: datetime) -> str:
    """Return a time as mails show it."""
    return now.strftime("%Y-%m-%d %H:%M UTC")


def _html(subject: str, paragraphs: list[str], button: str, url: str, language: str) -> str:
    direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
    first, *rest = (f"<p>{each}</p>" for each in paragraphs)
    link = (
        f'<table role="presentation" cellpadding="0" cellspacing="0"><tr><td class="button">'
        f'<a href="{escape(url)}">{escape(button)}</a></td></tr></table>'
        f'<p class="small" dir="ltr" style="word-break:break-all"><a href="{escape(url)}">{escape(url)}</a></p>'
        if button
        else ""
    )
    return (
        f'<!doctype html><html lang="{language}" dir="{direction}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(subject)}</title><style>{_STYLE}</style></head><body>"
        f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center">'
        f'<table role="presentation" class="card" width="560" cellpadding="28" cellspacing="0"'
        f' style="width:100%;max-width:560px"><tr><td><h1 style="font-size:20px;margin:0">{escape(subject)}</h1>'
        f'{first}{link}{"".join(rest)}<p class="small">{escape(brand_name())}</p>'
        f"</td></tr></table></td></tr></table></body></html>"
    )
