"""Debian's Chromium, headless, driven over two pipes by the DevTools protocol: no driver and no other library."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time

import pytest

FLAGS = (
    "--headless --no-sandbox --hide-scrollbars --disable-dev-shm-usage --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --no-default-browser-check --remote-debugging-pipe"
).split()
PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needed = pytest.mark.skipif(
    PATH is None and not os.environ.get("CI"), reason="Chromium is not installed (apt-get install chromium)"
)
"""Marks a test that is skipped without Chromium, and fails without it in a CI, which sets ``CI``."""


class Browser:
    """One page at a time. ``errors`` collects what the console got: errors, warnings, uncaught exceptions."""

    def __init__(self, profile, *flags):
        if PATH is None:
            raise RuntimeError("Chromium is not installed (apt-get install chromium)")
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        # The browser reads its file 3 and writes to its file 4, which a shell arranges.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", shell, "-", PATH, *FLAGS, *flags, f"--user-data-dir={profile}"]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stdout=nowhere, stderr=nowhere)
        os.close(theirs_in)
        os.close(theirs_out)
        self._timer = threading.Timer(300, self._process.kill)  # a test does not hang
        self._timer.start()
        self._rest, self._count, self._session, self.errors = b"", 0, None, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self):
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _message(self):
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._rest += piece
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        about = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(about["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(str(about["args"]))
        elif message.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(about["entry"]))
        # Some drivers say that reading pixels waits for the graphics card, as it has to: a hint, not an error.
        self.errors = [error for error in self.errors if "GL Driver Message (OpenGL, Performance" not in error]
        return message

    def send(self, method, **params):
        """Call a method of the protocol and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._count:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def run(self, code):
        """The value of a JavaScript expression; a promise is awaited."""
        done = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"])
        return done["result"].get("value")

    def open(self, url, until):
        """Load a page and wait until a JavaScript expression is true."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        self.wait(until)

    def wait(self, until):
        while not self.run(f"Boolean({until})"):
            time.sleep(0.02)

    def emulate(self, width, *, dark=False):
        """A screen of a width in pixels, of a phone if it is narrow."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, width, *, dark=False):
        """The whole page as PNG."""
        self.emulate(width, dark=dark)
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])
