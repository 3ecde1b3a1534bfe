"""A real browser without a screen: Chromium, driven over the pipe of its DevTools protocol; no package is needed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_SECONDS = 120.0
"""How long something may take before it counts as never; a busy machine is no failure."""
_MOVE_PIPE = """
import os, sys
inward, outward = (os.dup(os.dup(os.dup(int(number)))) for number in sys.argv[1:3])
os.dup2(inward, 3)
os.dup2(outward, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The program, or None where there is none."""
    named = os.environ.get("XAI_CHROMIUM", "")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page. ``requests`` are the addresses it asked for, ``errors`` what it wrote on its console or threw."""

    def __init__(self, inward: int, outward: int) -> None:
        self._inward, self._outward = inward, outward
        self._numbers = itertools.count(1)
        self._waiting = b""
        self._session = ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"}, False)["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, False)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        size = {"width": 1200, "height": 1600, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", size)

    def open(self, path: Path) -> None:
        self.requests.clear()
        self._call("Page.navigate", {"url": path.resolve().as_uri()})
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self._call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; errors: {self.errors}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of an element."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            more = {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", more)

    def picture(self, selector: str = "") -> bytes:
        """A PNG of the window, or of one element."""
        settings: dict[str, Any] = {"format": "png"}
        if selector:
            script = (
                f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                "return [r.left + scrollX, r.top + scrollY, r.width, r.height]; })()"
            )
            x, y, width, height = self.run(script)
            settings |= {"clip": {"x": x, "y": y, "width": width, "height": height, "scale": 1}}
            settings |= {"captureBeyondViewport": True}
        return base64.b64decode(self._call("Page.captureScreenshot", settings)["data"])

    def printed(self) -> bytes:
        """The page on paper, as PDF."""
        return base64.b64decode(self._call("Page.printToPDF", {"printBackground": True})["data"])

    def _call(self, method: str, parameters: dict[str, Any] | None = None, in_page: bool = True) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters or {}}
        if in_page:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._outward, data) :]
        while True:
            answer = self._next(method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _next(self, method: str) -> dict[str, Any]:
        end = time.monotonic() + WAIT_SECONDS
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._inward], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._inward, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError(f"the browser does not answer to {method}")
            self._waiting += part
        text, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"])[:500])
        elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(about["args"])[:500])
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    program = find_browser()
    if program is None:
        raise FileNotFoundError("there is no Chromium")
    to_browser, out = os.pipe()
    inward, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--no-sandbox",
            "--no-first-run",
            "--disable-gpu-sandbox",
            "--disable-dev-shm-usage",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--ignore-gpu-blocklist",
            "--disable-background-networking",
            "about:blank",
        ]
        # The protocol's pipe is descriptors 3 (in) and 4 (out) of the browser.
        wrapped = [sys.executable, "-c", _MOVE_PIPE, str(to_browser), str(from_browser), *command]
        with open(os.devnull, "wb") as silent:
            process = subprocess.Popen(
                wrapped, pass_fds=(to_browser, from_browser), stdin=silent, stdout=silent, stderr=silent
            )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(inward, out)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            os.close(inward)
            os.close(out)
