"""The account page blueprint: one document, made of the sections of its views."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, render_template, request
from markupsafe import escape

from tokenapp import config, errors
from tokenapp.config import Settings
from tokenapp.http import files, requests
from tokenapp.http.endpoint import endpoint

FOLDER: Final = Path(__file__).resolve().parent.parent / "web/account"
# The views that fill the page, and those that are sections of the account. A section whose template renders to nothing
# belongs to a capability that is not configured: its script stays idle.
VIEWS: Final = ("sign-in", "register", "reset", "email", "undo", "temporary", "second", "setup")
SECTIONS: Final = (
    "devices",
    "password",
    "passkeys",
    "factors",
    "everywhere",
    "keys",
    "profile",
    "address",
    "data",
    "leave",
)
LANGUAGES: Final = ("en", "de", "fr", "es", "ar")
RIGHT_TO_LEFT: Final = ("ar",)
# No inline scripts or styles, nothing of other hosts, and no text that becomes markup or a script (Trusted Types).
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# An SVG file is a document too. Opened by itself, it runs no script and loads nothing.
_LOGO_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
_REVALIDATED: Final = "public, no-cache"
_TEXT: Final = re.compile(r'(data-text="([\w-]+)\.([\w-]+)"[^<>]*>)')
_LABEL: Final = re.compile(r'data-label="([\w-]+)\.([\w-]+)"')

_prepared = cache(files.StaticFile.of)

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


@bp.get("/.well-known/change-password")
@endpoint(redirect=True, headers=("Location",))
def change_password_page() -> Response:
    """Redirect password managers to the form for a new password."""
    return requests.redirect("/account", fragment="password")


@bp.get("/account")
@endpoint(response=("text/html",), cacheable=True)
def account_page() -> Response:
    """Return the account page.

    On it, users sign in, manage their devices and change their password. With `?return_to=URL`, the browser goes to
    that URL after the sign-in, if it is of this service or of an allowed origin.
    """
    settings = config.current()
    return_origin = _origin_of(request.args.get("return_to", ""), settings.allowed_origins)
    page = _page(settings, _language(), return_origin, signed_out=_is_signed_out(settings))
    response = files.send(page, _REVALIDATED)
    response.vary.update(("Accept-Language", "Cookie", "Sec-Fetch-Site"))
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@bp.get("/static/logo")
@endpoint(response=("image/png", "image/svg+xml"), cacheable=True, errors=(errors.NotFound,))
def logo() -> Response:
    """Return the operator's logo, if there is one."""
    logo = config.current().brand_logo
    if logo is None:
        raise errors.NotFound
    response = files.send(_prepared(logo.content, logo.media_type), _REVALIDATED)
    response.headers["Content-Security-Policy"] = _LOGO_POLICY
    return response


@cache
def read_texts(language: str) -> dict[str, dict[str, str]]:
    """Return the texts of a language, by view and name."""
    texts: dict[str, dict[str, str]] = json.loads((FOLDER / f"texts/{language}.json").read_text(encoding="utf-8"))
    return texts


@cache
def _page(settings: Settings, language: str, return_origin: str, *, signed_out: bool) -> files.StaticFile:
    texts = read_texts(language)
    page = render_template(
        "account.html",
        language=language,
        languages=LANGUAGES,
        rtl=RIGHT_TO_LEFT,
        texts=texts,
        settings=settings,
        views=VIEWS,
        sections=SECTIONS,
        return_origin=return_origin,
        signed_out=signed_out,
    )
    values = {"minimum": str(settings.password_min_length), "brand": settings.brand_name}
    return files.StaticFile.of(_fill(page, texts, values).encode(), "text/html")


def _fill(page: str, texts: dict[str, dict[str, str]], values: dict[str, str]) -> str:
    """Put the texts into the elements that name one, as `translate` does in the page."""

    def text(view: str, name: str) -> str:
        return str(escape(re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], ""), texts[view][name])))

    page = _TEXT.sub(lambda match: match[1] + text(match[2], match[3]), page)
    return _LABEL.sub(lambda match: f'{match[0]} aria-label="{text(match[1], match[2])}"', page)


def _language() -> str:
    """Return the language that the browser prefers among those of the page."""
    preferred = (tag.split("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((each for each in preferred if each in LANGUAGES), LANGUAGES[0])


def _origin_of(url: str, allowed: tuple[str, ...]) -> str:
    """Return the allowed origin that `url` begins with, or nothing.

    It tells the page's script nothing but that: whether the browser would go there, only the browser knows.
    """
    return next((origin for origin in allowed if re.match(re.escape(origin) + r"(?:[/?#]|\Z)", url)), "")


def _is_signed_out(settings: Settings) -> bool:
    """Whether no user can be signed in, so that the page can show the form.

    Browsers leave out the cookie when a page of another site leads here (SameSite=Strict).
    """
    has_all_cookies = request.headers.get("Sec-Fetch-Site") in {"none", "same-origin", "same-site"}
    return has_all_cookies and settings.cookie_name not in request.cookies
