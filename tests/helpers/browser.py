"""A page in a real browser: headless Chromium, controlled by its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from hdarts.errors import ParameterError
from hdarts.workbook.page.report.pdf import browser

KEYS = {"Escape": 27, "Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}
QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --disable-extensions --remote-debugging-port=0"""


class Browser:
    """An open page, its requests and its complaints."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, suppress_origin=True, timeout=60)
        self.calls, self.requests, self.complaints = 0, [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; record the events in between."""
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (reply := self._next()).get("id") != self.calls:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    def _next(self) -> dict[str, Any]:
        message = json.loads(self.socket.recv())
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(message["params"])
        return message

    def open(self, page: Path | str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file or an address in a window of this size and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def becomes(self, expression: str, value: Any) -> bool:
        """Whether an expression has a value within 20 s; handlers may run after their event."""
        until = time.monotonic() + 20
        while (right := self.ask(expression) == value) is False and time.monotonic() < until:
            time.sleep(0.02)
        return right

    def press(self, key: str) -> None:
        named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, file: Path) -> None:
        """Write what the window shows to a PNG file."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start Chromium, which finds no other host, with its profile in `folder`; yield a page, or skip the test."""
    try:
        path = browser()
    except ParameterError:
        pytest.skip("no Chromium or Chrome is installed (Debian: apt-get install chromium)")
    profile = folder / "profile"
    hosts = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    command = [path, *QUIET.split(), f"--user-data-dir={profile}", hosts]
    process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page = None
    try:
        page = Browser(_address(profile, process))
        yield page
    finally:
        if page is not None:
            page.socket.close()
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(profile, ignore_errors=True)


def _address(profile: Path, process: subprocess.Popen) -> str:
    """Wait for the browser's port and return the address of its page."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with_port = profile / "DevToolsActivePort"
        if with_port.exists() and (lines := with_port.read_text().split()):
            browser = websocket.create_connection(f"ws://127.0.0.1:{lines[0]}{lines[1]}", suppress_origin=True)
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(browser.recv())["result"]["targetInfos"]
            browser.close()
            if pages := [one["targetId"] for one in targets if one["type"] == "page"]:
                return f"ws://127.0.0.1:{lines[0]}/devtools/page/{pages[0]}"
        time.sleep(0.05)
    raise TimeoutError(f"Chromium did not start (exit code {process.poll()})")
