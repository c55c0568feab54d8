"""The texts of the account page, in the language of the browser."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest
from flask import Flask

from tests.support.client import Client
from tests.support.programs import find_program
from tokenapp.api.account_page import FOLDER, LANGUAGES, RIGHT_TO_LEFT, read_texts

# Texts whose names the scripts compose: by error code, by field, and by view.
COMPOSED: Final = ("errors", "empty", "fields")
COMPOSED_NAMES: Final = ("sure", "sureHint", "submit", "signed-out", "session-ended", "language")
SAME_IN_ALL: Final = {"page.language"}
# The names of the user's languages, and how the page writes a day. Some browsers name what they themselves reject.
DAYS: Final = {
    '["de-AT", "en-GB"]': "31 Dec 2026",
    '["de-AT"]': "Dec 31, 2026",
    '["en-US@posix"]': "Dec 31, 2026",
    "[null]": "Dec 31, 2026",
    "undefined": "Dec 31, 2026",
}
FORMAT_DAYS: Final = """
    globalThis.document = {
        documentElement: { lang: "en" },
        body: { dataset: { languages: "en", rtl: "" } },
        getElementById: () => ({ textContent: "{}" }),
    };
    const found = [];
    for (const languages of [LANGUAGES]) {
        Object.defineProperty(globalThis, "navigator", { value: { languages }, configurable: true });
        const { formatDay } = await import(`MODULE?${found.length}`);
        found.push(formatDay(new Date(2026, 11, 31)));
    }
    console.log(JSON.stringify(found));
"""


def keyed(language: str) -> dict[str, str]:
    """Return the texts of a language by their keys."""
    return {f"{view}.{name}": text for view, texts in read_texts(language).items() for name, text in texts.items()}


def sources() -> str:
    return "\n".join(path.read_text() for path in FOLDER.rglob("*") if path.suffix in {".js", ".html"})


def test_there_is_one_dictionary_per_language() -> None:
    assert sorted(path.stem for path in (FOLDER / "texts").iterdir()) == sorted(LANGUAGES)
    assert set(RIGHT_TO_LEFT) < set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_dictionary_is_complete(language: str) -> None:
    english, texts = keyed("en"), keyed(language)
    assert texts.keys() == english.keys()
    assert [key for key, text in texts.items() if not text.strip()] == []
    holes = {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in texts.items()}
    assert holes == {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in english.items()}
    assert texts["page.language"] == language


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_texts_are_translated(language: str) -> None:
    english, texts = keyed("en"), keyed(language)
    long = {key for key, text in english.items() if " " in text}
    assert {key for key in long if texts[key] == english[key]} == set()


def test_every_text_is_used_and_every_used_text_exists() -> None:
    used = set(re.findall(r"""["'`]((?:[a-z]+-)*[a-z]+\.(?:[a-z]+-)*[a-zA-Z]+)["'`]""", sources()))
    texts = keyed("en")
    composed = {key for key in texts if key.split(".")[0] in COMPOSED or key.split(".")[1] in COMPOSED_NAMES}
    links = {"page.help", "page.privacy", "page.imprint"}
    assert texts.keys() - used - composed - links == set()
    views = {key.split(".")[0] for key in texts} - {"fields"}  # which is also a file
    assert {key for key in used if key.split(".")[0] in views} - texts.keys() == set()


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.8,en;q=0.5", "de"),
        ("fr-CA", "fr"),
        ("ES", "es"),
        ("ar-EG,en;q=0.9", "ar"),
        ("nl,fr;q=0.5,de;q=0.4", "fr"),
        ("nl", "en"),
        ("de;q=0,fr", "fr"),
        ("*", "en"),
        ("de;q=x,,;", "en"),
    ],
)
def test_language_is_that_of_the_browser(shared_app: Flask, accepted: str, language: str) -> None:
    response = Client(shared_app).send("GET", "/account", headers={"Accept-Language": accepted})
    direction = "rtl" if language == "ar" else "ltr"
    assert f'<html lang="{language}" dir="{direction}">' in response.text
    assert f">{keyed(language)['forms.password']}</label>" in response.text
    assert "Accept-Language" in str(response.header("Vary"))


def test_no_text_is_missing_in_the_page(shared_app: Flask) -> None:
    for language in LANGUAGES:
        page = Client(shared_app).send("GET", "/account", headers={"Accept-Language": language}).text
        empty = re.findall(r'<[^<>]*data-text="(?!page\.back)[^<>]*></', page)
        assert empty == []
        labelled: Iterator[str] = (tag for tag in re.findall(r"<[^<>]*data-label=[^<>]*>", page))
        assert [tag for tag in labelled if 'aria-label="' not in tag or 'aria-label=""' in tag] == []


def test_dates_are_written_whatever_the_browser_says_about_its_languages() -> None:
    module = (FOLDER / "texts.js").as_uri()
    script = FORMAT_DAYS.replace("LANGUAGES", ", ".join(DAYS)).replace("MODULE", module)
    command = [find_program("node"), "--no-warnings", "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == list(DAYS.values())
