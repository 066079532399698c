"""A real browser without a window: opens pages, clicks, types, and says what is to be seen. Chromium, by its DevTools protocol.

Over a pair of pipes (https://chromedevtools.github.io/devtools-protocol/, `--remote-debugging-pipe`): no port, and the browser
ends with the test. It asks nobody but the page's own server. Knows no page.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

from tests.fixtures.machine import require_tool

LIMIT_S = 120.0
END = b"\0"
READ_BYTES = 1 << 20
OPTIONS = (
    "--headless",
    "--no-sandbox",  # it is root's
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--window-size=1400,900",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of one browser."""

    def __init__(self, told: int, tells: int) -> None:
        """`told` and `tells`: the ends of the pipes that we read and write."""
        self._told = told
        self._tells = tells
        self._read = b""
        self._number = 0
        self._session = ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, url: str) -> None:
        """The page of that URL is asked for; what is on it comes by and by (see `wait_for`)."""
        failed = self._ask("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"

    def evaluate(self, script: str) -> Any:
        """What the JavaScript expression comes to, as JSON has it."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait_for(self, script: str, what: str) -> Any:
        """The first true value of the expression. Fails in words when there was none within the limit."""
        deadline = time.monotonic() + LIMIT_S
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body.innerText")
                raise AssertionError(f"waited {LIMIT_S} s for {what}; the page says: {text}")
            time.sleep(0.1)
        return value

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of the first such element, as a person's, who scrolls there first."""
        box = self.wait_for(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            " e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            " const b = e.getBoundingClientRect(); return b.width && [b.x + b.width / 2, b.y + b.height / 2] })()",
            f"{selector} to be seen",
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """The keys of that text, into what has the focus."""
        for letter in text:
            self._ask("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            self._ask("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def screenshot(self, file: Path) -> None:
        """The file is a PNG of what is to be seen."""
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._tells, json.dumps(message).encode() + END)
        deadline = time.monotonic() + LIMIT_S
        while (answer := self._next(deadline)).get("id") != self._number:
            pass  # an event
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self, deadline: float) -> dict[str, Any]:
        while END not in self._read:
            ready, _, _ = select([self._told], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing within {LIMIT_S} s"
            read = os.read(self._told, READ_BYTES)
            assert read, "the browser has ended"
            self._read += read
        one, _, self._read = self._read.partition(END)
        message: dict[str, Any] = json.loads(one)
        return message


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser with nothing remembered; ended, with all that it wrote, after the block."""
    chromium = require_tool("chromium")
    directory = Path(tempfile.mkdtemp(prefix="tvt-browser-"))
    theirs_in, tells = os.pipe()
    told, theirs_out = os.pipe()
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}
    words = [chromium, *OPTIONS, f"--user-data-dir={directory}/profile", "about:blank"]
    # It reads from 3 and writes to 4, and Python gives no child a number of one's choice.
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words],
            pass_fds=(theirs_in, theirs_out),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(told, tells)
    finally:
        os.close(tells)  # which is how it is told to end
        os.close(told)
        try:
            process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)
