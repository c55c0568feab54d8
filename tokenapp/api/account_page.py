"""The account page blueprint: one document, made of the sections of its views."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, render_template
from markupsafe import escape

from tokenapp import config
from tokenapp.config import Settings
from tokenapp.http import files, requests
from tokenapp.http.endpoint import endpoint

FOLDER: Final = Path(__file__).resolve().parent.parent / "web/account"
# The views that fill the page, and those that are sections of the account. A section whose template renders to nothing
# belongs to a capability that is not configured: its script stays idle.
VIEWS: Final = ("sign-in",)
SECTIONS: Final = ("devices", "password")
# No inline scripts or styles, nothing of other hosts, and no text that becomes markup or a script (Trusted Types).
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_TEXT: Final = re.compile(r'(data-text="([\w-]+)\.([\w-]+)"[^<>]*>)')
_LABEL: Final = re.compile(r'data-label="([\w-]+)\.([\w-]+)"')

bp = Blueprint("account_page", __name__, template_folder="../web/account")


@bp.get("/")
@endpoint(redirect=True, headers=("Location",))
def home() -> Response:
    """Redirect to the account page."""
    return requests.redirect("/account")


@bp.get("/account/")
@endpoint(redirect=True, headers=("Location",))
def account_folder() -> Response:
    """Redirect to the account page."""
    return requests.redirect("/account")


@bp.get("/account")
@endpoint(response=("text/html",), cacheable=True)
def account_page() -> Response:
    """Return the account page.

    On it, users sign in, manage their devices and change their password.
    """
    response = files.send(_page(config.current()), "public, no-cache")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@cache
def _page(settings: Settings) -> files.StaticFile:
    texts = read_texts("en")
    page = render_template(
        "account.html", language="en", texts=texts, settings=settings, views=VIEWS, sections=SECTIONS
    )
    values = {"minimum": str(settings.password_min_length)}
    return files.StaticFile.of(fill(page, texts, values).encode(), "text/html")


@cache
def read_texts(language: str) -> dict[str, dict[str, str]]:
    """Return the texts of a language, by view and name."""
    texts: dict[str, dict[str, str]] = json.loads((FOLDER / f"texts/{language}.json").read_text(encoding="utf-8"))
    return texts


def fill(page: str, texts: dict[str, dict[str, str]], values: dict[str, str]) -> str:
    """Put the texts into the elements that name one, as `translate` does in the page."""

    def text(view: str, name: str) -> str:
        return str(escape(re.sub(r"\{(\w+)\}", lambda match: values[match[1]], texts[view][name])))

    page = _TEXT.sub(lambda match: match[1] + text(match[2], match[3]), page)
    return _LABEL.sub(lambda match: f'{match[0]} aria-label="{text(match[1], match[2])}"', page)
