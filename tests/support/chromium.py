"""Headless Chromium, which sends no requests of its own."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, BrowserContext, Playwright, expect, sync_playwright

from tests.support.concurrency import wait_until
from tests.support.programs import find_program
from tests.support.server import free_port

_ARGUMENTS: Final = (
    "--no-sandbox",  # the sandbox does not work for root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * 127.0.0.1",  # no page can reach another machine
)

# The popups of the address bar are pages of their own, which take more time than those of the tests. Chromium reads the
# last list only, so this one begins with that of the driver.
_DISABLED: Final = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
)
_DRIVEN: Final = (*_ARGUMENTS, f"--disable-features={','.join(_DISABLED)}")

expect.set_options(timeout=60_000)  # the default of 5 s is too short on a loaded machine


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start the system's Chromium, or skip the test if it is not installed.

    `arguments` take precedence over the default ones.
    """
    find_program("chromium")
    with sync_playwright() as playwright, launch(playwright, *arguments) as browser:
        yield browser


@contextmanager
def launch(playwright: Playwright, *arguments: str) -> Iterator[Browser]:
    """Start Chromium with a driver that already runs: each process can have only one."""
    program = find_program("chromium")
    browser = playwright.chromium.launch(executable_path=program, args=(*_DRIVEN, *arguments))
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def launch_without_cookies(playwright: Playwright, folder: Path) -> Iterator[BrowserContext]:
    """Start Chromium with a profile that blocks all cookies, in `folder`."""
    (folder / "Default").mkdir()
    settings = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (folder / "Default/Preferences").write_text(json.dumps(settings))
    program = find_program("chromium")
    context = playwright.chromium.launch_persistent_context(folder, executable_path=program, args=_DRIVEN)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def binding_chromium(playwright: Playwright, folder: Path, authority: Path, *arguments: str) -> Iterator[Browser]:
    """Start Chromium with keys for device-bound sessions, which it keeps in software.

    It trusts the certificate authority: the feature is off on connections whose certificate errors are ignored. It is
    started here and not by the driver, which turns the feature off.
    """
    program, tool = find_program("chromium"), find_program("certutil")
    database, port = folder / "home/.pki/nssdb", free_port()
    database.mkdir(parents=True)
    for command in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "authority", "-i", str(authority)]):
        subprocess.run([tool, "-d", f"sql:{database}", *command], check=True)
    features = "DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"
    process = subprocess.Popen(
        [
            program,
            "--headless",
            f"--user-data-dir={folder}/profile",
            f"--remote-debugging-port={port}",
            f"--enable-features={features}",
            *_ARGUMENTS,
            *arguments,
        ],
        env={**os.environ, "HOME": str(folder / "home")},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _listens(port), seconds=60, what="Chromium")
        browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
