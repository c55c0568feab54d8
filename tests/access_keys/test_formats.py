"""The form of access keys: random texts and source files are no keys."""

import os
import random
import re
import string
import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from tests.support.app import ROOT
from tokenapp import access_keys

# make soak sets these to a million texts and a hundred thousand files.
TEXTS = int(os.environ.get("RANDOM_KEYS", "20000"))
FILES = int(os.environ.get("SOURCE_FILES", "500"))
LETTERS = string.digits + string.ascii_letters
EXAMPLE = "tokenapp_" + "0" * 30 + "2C8GjS"
DOCUMENTED = re.compile(r"\btokenapp_[0-9A-Za-z]{36}\b")


def test_new_keys_are_well_formed_and_differ() -> None:
    keys = {access_keys.generate() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(DOCUMENTED.fullmatch(key) and access_keys.is_well_formed(key) for key in keys)


def test_example_of_the_documentation_is_well_formed() -> None:
    example = DOCUMENTED.findall((ROOT / "docs/access-keys.md").read_text())
    assert example == [EXAMPLE]
    assert access_keys.is_well_formed(EXAMPLE)


def test_every_mistyped_character_is_noticed() -> None:
    key = access_keys.generate()
    for place in range(len("tokenapp_"), len(key)):
        for letter in LETTERS:
            other = key[:place] + letter + key[place + 1 :]
            assert access_keys.is_well_formed(other) == (other == key)


@pytest.mark.parametrize("change", ["{}\n", " {}", "{}=", "x{}", "{}0", "{}\x00"])
def test_text_around_a_key_is_no_key(change: str) -> None:
    assert not access_keys.is_well_formed(change.format(access_keys.generate()))


@pytest.mark.parametrize("text", ["", "tokenapp_", "tokenapp_" + "\u0660" * 36, "TOKENAPP_" + "0" * 36])
def test_other_text_is_no_key(text: str) -> None:
    assert not access_keys.is_well_formed(text)


def test_random_texts_are_no_keys() -> None:
    chosen = random.Random(TEXTS)
    texts = ("".join(chosen.choices(LETTERS, k=36)) for _ in range(TEXTS))
    hits = [text for text in texts if access_keys.is_well_formed("tokenapp_" + text)]
    assert hits == []


def test_source_files_contain_no_keys() -> None:
    folders = (ROOT / "tokenapp", ROOT / "docs", ROOT / "tests", Path(sysconfig.get_path("stdlib")))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    hits = [
        (path, key)
        for path in islice(files, FILES)
        for key in DOCUMENTED.findall(path.read_text(errors="replace"))
        if access_keys.is_well_formed(key) and key != EXAMPLE
    ]
    assert hits == []
