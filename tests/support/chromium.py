"""A real browser: Chromium without a window, which calls nobody of its own accord."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

_QUIET: Final = (
    "--no-sandbox",  # which root cannot have
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * 127.0.0.1",  # whatever a page calls, it is this machine that it reaches
)

expect.set_options(timeout=20_000)  # what a page comes to show: two slow cores take longer than the default


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """Start the system's Chromium, or skip the test where there is none (and fail where there must be).

    `more` arguments overrule those that it is always started with.
    """
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if os.environ.get("REQUIRE_SERVERS") else pytest.skip)("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=(*_QUIET, *more))
        try:
            yield browser
        finally:
            browser.close()
