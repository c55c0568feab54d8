"""The files for containers name settings that exist, and one user."""

import re

import pytest

from tests.support.app import ROOT
from tokenapp.config import FILE_SETTINGS, SETTINGS

KNOWN = {setting.name for setting in SETTINGS} | FILE_SETTINGS
FILES = ("Containerfile", "compose.yaml", "docs/kubernetes.md", "docs/containers.md")
NOT_OURS = {"POSTGRES_PASSWORD_FILE", "TOKENAPP_SERVICE_HOST"}


@pytest.mark.parametrize("name", FILES)
def test_every_setting_in_the_files_exists(name: str) -> None:
    named = set(re.findall(r"\b(?:TOKENAPP_[A-Z_]+|[A-Z_]+_FILE|DATABASE_URL|SECRET_KEY)\b", (ROOT / name).read_text()))
    assert named
    assert named - KNOWN - NOT_OURS == set()


def test_guide_and_image_have_the_same_user_and_port() -> None:
    containerfile, guide = (ROOT / "Containerfile").read_text(), (ROOT / "docs/containers.md").read_text()
    assert "USER 10001:10001" in containerfile
    assert "chown 10001 " in guide
    assert re.search(r"TOKENAPP_BIND=0\.0\.0\.0 ", containerfile)  # so that PORT has an effect
    assert "EXPOSE 3005" in containerfile


def test_build_context_has_what_the_image_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for line in copied for name in line.split()} == allowed
