"""Headless Firefox of the system, driven by Playwright over WebDriver BiDi.

Playwright always sends a command that this Firefox does not know yet, and gives up at the error. So Playwright starts
this file in place of Firefox: it starts Firefox and relays the WebSocket, answering that command itself.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Playwright

from tests.support.programs import find_program

_ROOT: Final = Path(__file__).resolve().parents[2]
_UNKNOWN: Final = "emulation.setMediaFeaturesOverride"
_READY: Final = re.compile(rb"WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)")
_TEXT, _MASKED = 0x81, 0x80


@contextmanager
def launch_firefox(playwright: Playwright, folder: Path, **preferences: bool | float | str) -> Iterator[Browser]:
    """Start Firefox, or skip the test if it is not installed.

    `folder` is for temporary files.
    """
    program = find_program("firefox-esr")
    launcher = folder / "firefox"
    launcher.write_text(f'#!/bin/sh\ncd {_ROOT} && exec {sys.executable} -m {__name__} {program} "$@"\n')
    launcher.chmod(0o755)
    browser = playwright.firefox.launch(
        channel="moz-firefox", executable_path=launcher, firefox_user_prefs=preferences or None
    )
    try:
        yield browser
    finally:
        browser.close()


async def _main(*command: str) -> int:
    """Run Firefox and the relay until Firefox ends."""
    firefox = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr
    async for line in firefox.stderr:
        ready = _READY.search(line)
        if ready:
            server = await asyncio.start_server(partial(_relay, int(ready[1])), "127.0.0.1", 0)
            line = line.replace(ready[1], str(server.sockets[0].getsockname()[1]).encode())  # noqa: PLW2901
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    return await firefox.wait()


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
    request = await reader.readuntil(b"\r\n\r\n")
    request = re.sub(rb"(?m)^Sec-WebSocket-Extensions:.*\r\n", b"", request)  # no compression
    upstream_writer.write(re.sub(rb"(?m)^Host:.*\r$", b"Host: 127.0.0.1:%d\r" % port, request))
    writer.write(await upstream_reader.readuntil(b"\r\n\r\n"))

    async def send_commands() -> None:
        while True:
            frame, payload = await _read_frame(reader)
            command = json.loads(payload) if frame[0] == _TEXT else {}
            if command.get("method") == _UNKNOWN:
                reply = json.dumps({"type": "success", "id": command["id"], "result": {}}).encode()
                writer.write(bytes([_TEXT, len(reply)]) + reply)
            else:
                upstream_writer.write(frame)

    async def send_events() -> None:
        while True:
            writer.write((await _read_frame(upstream_reader))[0])

    tasks = [asyncio.create_task(send_commands()), asyncio.create_task(send_events())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for each in (writer, upstream_writer):
        each.close()


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a frame of RFC 6455, and its payload without the mask."""
    frame = await reader.readexactly(2)
    length = frame[1] & ~_MASKED
    extended = {126: 2, 127: 8}.get(length, 0)
    if extended:
        frame += await reader.readexactly(extended)
        length = int.from_bytes(frame[2:], "big")
    mask = await reader.readexactly(4) if frame[1] & _MASKED else bytes(4)
    payload = await reader.readexactly(length)
    plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if any(mask) else payload
    return frame + (mask if frame[1] & _MASKED else b"") + payload, plain


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(*sys.argv[1:])))
