"""The document of the account page: security policy, content, caching and brand."""

import gzip
import re
from pathlib import Path
from typing import Final

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.client import Client, Response
from tests.support.settings import problems_of, production
from tokenapp.api import pages
from tokenapp.config import brand

SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
FILES: Final = [*pages.FILES]


@pytest.fixture
def page(databases: Databases) -> Response:
    """Give the response to a request for the account page."""
    return get_page(make_app(databases("sqlite")))


def get_page(app: Flask, **headers: str) -> Response:
    return Client(app).send("GET", "/account", headers={name.replace("_", "-"): each for name, each in headers.items()})


def test_page_loads_only_files_of_the_service_and_parses_no_text_as_script(page: Response) -> None:
    policy = dict(each.split(" ", 1) for each in str(page.header("Content-Security-Policy")).split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_page_states_the_minimum_length_of_a_password(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_PASSWORD_MIN_LENGTH="17")
    assert "At least 17 characters" in get_page(app).text


def test_form_is_shown_at_once_if_no_user_can_be_signed_in(shared_app: Flask) -> None:
    def shows_form(**headers: str) -> bool:
        text = get_page(shared_app, **headers).text
        is_shown = [re.search(rf'id="view-{view}"[^<>]* hidden>', text) is None for view in ("sign-in", "loading")]
        assert sum(is_shown) == 1
        return is_shown[0]

    cookie = "refreshToken=x"
    assert shows_form(Sec_Fetch_Site="none")
    assert shows_form(Sec_Fetch_Site="same-origin")
    assert shows_form(Sec_Fetch_Site="same-site", Cookie="other=1")
    assert not shows_form(Sec_Fetch_Site="none", Cookie=cookie)
    assert not shows_form(Sec_Fetch_Site="cross-site")  # browsers leave out the cookie
    assert not shows_form()


# Caching and compression


def test_browsers_revalidate_the_page_at_each_request(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    first = get_page(app)
    assert first.header("Cache-Control") == "public, no-cache"
    assert {"Accept-Language", "Cookie", "Sec-Fetch-Site", "Accept-Encoding"} <= set(
        str(first.header("Vary")).split(", ")
    )
    again = get_page(app, If_None_Match=str(first.header("ETag")))
    assert (again.status, again.body) == (304, b"")
    assert get_page(app, If_None_Match=str(first.header("ETag")), Accept_Language="de").status == 200


@pytest.mark.parametrize("path", ["/account", *(f"/static/{name}" for name in FILES)])
def test_files_are_sent_compressed_to_browsers_that_accept_it(shared_app: Flask, path: str) -> None:
    def get(accepted: str, **more: str) -> Response:
        headers = {"Accept-Encoding": accepted, **{name.replace("_", "-"): value for name, value in more.items()}}
        return Client(shared_app).send("GET", path, headers=headers)

    plain, compressed = get("identity"), get("br, gzip;q=0.5")
    assert (plain.header("Content-Encoding"), compressed.header("Content-Encoding")) == (None, "gzip")
    assert gzip.decompress(compressed.body) == plain.body
    assert plain.header("ETag") != compressed.header("ETag")
    for accepted, response in (("identity", plain), ("gzip", compressed)):
        assert "Accept-Encoding" in str(response.header("Vary"))
        again = get(accepted, If_None_Match=str(response.header("ETag")))
        assert (again.status, again.body) == (304, b"")
        assert "Accept-Encoding" in str(again.header("Vary"))
    # A proxy that compresses by itself weakens the tag.
    assert get("identity", If_None_Match=f"W/{plain.header('ETag')}").status == 304
    assert get("gzip", If_None_Match=str(plain.header("ETag"))).status == 200


@pytest.mark.parametrize("accepted", ["", "gzip;q=0", "br", "*;q=0", "identity", "deflate, gzip;q=0.0"])
def test_files_are_sent_plain_to_others(shared_app: Flask, accepted: str) -> None:
    response = Client(shared_app).send("GET", "/static/account.css", headers={"Accept-Encoding": accepted})
    assert response.header("Content-Encoding") is None
    assert response.text.startswith(":root")


def test_page_needs_few_bytes_and_requests(shared_app: Flask) -> None:
    page = get_page(shared_app, Accept_Encoding="gzip")
    text = gzip.decompress(page.body).decode()
    files = re.findall(r'(?:src|href)="(static/[^"]+)"', text)
    assert len(files) == 3
    sizes = [
        len(Client(shared_app).send("GET", f"/{path}", headers={"Accept-Encoding": "gzip"}).body) for path in files
    ]
    assert len(page.body) + sum(sizes) < 41_000


def test_response_about_a_person_is_not_compressed(shared_app: Flask) -> None:
    for path in ("/api/me", "/api/sessions"):
        response = Client(shared_app).send("GET", path, headers={"Accept-Encoding": "gzip"})
        assert response.header("Content-Encoding") is None


# Brand


def test_name_and_links_are_those_of_the_operator_and_are_text(databases: Databases) -> None:
    links = "imprint=https://example.com/imprint?a=1&b=<2>,help=mailto:help@example.com"
    app = make_app(databases("sqlite"), TOKENAPP_BRAND_NAME='A <b> & "C" {minimum}', TOKENAPP_BRAND_LINKS=links)
    text = get_page(app).text
    assert '">Sign in to A &lt;b&gt; &amp; &#34;C&#34; {minimum}</h1>' in text
    assert "<bdi>A &lt;b&gt; &amp; &#34;C&#34; {minimum}</bdi>" in text
    assert re.findall('<a href="([^"#]+)" data-text="page', text) == [
        "mailto:help@example.com",
        "https://example.com/imprint?a=1&amp;b=&lt;2&gt;",
    ]


@pytest.mark.parametrize(
    ("content", "media_type"), [(SVG.encode(), "image/svg+xml"), (b"\x89PNG\r\n\x1a\n", "image/png")]
)
def test_logo_is_sent_with_the_type_of_its_content_and_runs_no_script(
    databases: Databases, tmp_path: Path, content: bytes, media_type: str
) -> None:
    (tmp_path / "logo.html").write_bytes(content)
    app = make_app(databases("sqlite"), TOKENAPP_BRAND_LOGO=str(tmp_path / "logo.html"))
    (tmp_path / "logo.html").write_text("changed after the start")
    response = Client(app).send("GET", "/static/logo")
    assert (response.status, response.body) == (200, content)
    assert str(response.header("Content-Type")).split(";")[0] == media_type
    assert response.header("X-Content-Type-Options") == "nosniff"
    policy = str(response.header("Content-Security-Policy")).split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    assert 'src="static/logo"' in get_page(app).text


def test_logo_is_not_found_without_the_setting(shared_app: Flask) -> None:
    assert Client(shared_app).send("GET", "/static/logo").status == 404
    assert "static/logo" not in get_page(shared_app).text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg></svg>",
        b'<html xmlns="http://www.w3.org/2000/svg"/>',
        b'<svg xmlns="http://www.w3.org/2000/svg">',
        b'<!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><svg xmlns="http://www.w3.org/2000/svg">&b;</svg>',
        b"GIF89a",
        b"\x89PNG",
        b"\x89PNG\r\n\x1a\n" + bytes(brand.MAX_LOGO_BYTES),
        b"\xff\xfe<\x00s\x00v\x00g\x00",
    ],
)
def test_other_file_is_no_logo(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logo.svg").write_bytes(content)
    [problem] = problems_of(production(TOKENAPP_BRAND_LOGO=str(tmp_path / "logo.svg")), tmp_path)
    assert problem.startswith("TOKENAPP_BRAND_LOGO must be the path of a PNG file")


def test_colour_must_have_enough_contrast_in_both_schemes(tmp_path: Path) -> None:
    def problems(color: str) -> list[str]:
        return problems_of(production(TOKENAPP_BRAND_COLOR=color), tmp_path)

    [light] = problems("#ffcc00")
    assert light.startswith("TOKENAPP_BRAND_COLOR has a contrast of 1.4 in the light scheme")
    [dark] = problems("#2a4bcc,#2a4bcc")
    assert "in the dark scheme" in dark
    assert len(problems("#ffffff,#000000")) == 2
    assert problems("#8a6d00") == problems("#000000,#ffcc00") == []


@pytest.mark.parametrize(
    "color", ["#000000", "#2a4bcc", "#b00020", "#006644", "#7a4dd8", "#8a6d00", "#0000ff", "#666666"]
)
def test_all_shades_of_a_colour_can_be_read(color: str) -> None:
    palette = brand.palette(color)
    assert palette is not None
    light, dark = (dict(re.findall(r"--([\w-]+): #(\w{6})", part)) for part in palette.css().split("@media"))
    for shades, surface in ((light, "f5f6f8"), (dark, "171b22")):
        for front, back in (
            ("accent", surface),
            ("accent-strong", surface),
            ("on-accent", "accent"),
            ("accent-strong", "tint"),
        ):
            one, other = (bytes.fromhex(shades.get(each, each)) for each in (front, back))
            assert brand.contrast((*one,), (*other,)) >= 4.5, (front, back)


def test_style_sheet_has_the_colour_of_the_operator(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_BRAND_COLOR="#b00020")
    text = Client(app).send("GET", "/static/account.css").text
    assert text.rindex("--accent: #b00020") > text.rindex("--accent: #2a4bcc")
    plain = Client(make_app(databases("sqlite"))).send("GET", "/static/account.css").text
    assert "#b00020" not in plain


@pytest.mark.parametrize(
    ("registration", "shown"),
    [
        ("open", {"sign-in.register", "register-ask", "register-paste", "register-use", "reset-ask", "leave-name"}),
        ("invite", {"sign-in.invited", "register-paste", "register-use", "reset-ask", "leave-name"}),
        ("closed", {"reset-ask", "leave-name"}),
    ],
)
def test_page_has_the_views_of_what_is_configured(databases: Databases, registration: str, shown: set[str]) -> None:
    text = get_page(make_app(databases("sqlite"), TOKENAPP_REGISTRATION=registration)).text
    views = ("sign-in.register", "sign-in.invited", "register-ask", "register-paste", "register-use")
    assert {each for each in (*views, "reset-ask", "leave-name") if f'"{each}"' in text} == shown
