"""A page in a real browser: Chromium without a window, where it is installed."""

import html
import json
import re
import shutil
import subprocess

import pytest

_FLAGS = """--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update
--disable-default-apps --disable-sync --no-first-run --hide-scrollbars --enable-logging=stderr""".split()


def in_browser(page, script, *, width=1280, dark=False):
    """Open an HTML file, run ``script`` in it, and give the value that it returns and what the console said.

    Skips the test where there is no Chromium.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    probe = f"<script>parent.postMessage(JSON.stringify((() => {{{script}}})()), '*')</script></body>"
    probed, frame = page.with_name("probed.html"), page.with_name("frame.html")
    probed.write_text(page.read_text().replace("</body>", probe))
    frame.write_text(  # a window of its own is at least 500 pixels wide
        "<pre></pre><script>addEventListener('message', (e) => document.querySelector('pre').textContent = e.data)"
        f"</script><iframe src='{probed.as_uri()}' style='width:{width}px;height:900px;border:0'></iframe>"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [chromium, *_FLAGS, scheme, f"--user-data-dir={page.parent / 'chromium'}", "--virtual-time-budget=5000"]
    done = subprocess.run([*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search("<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), re.findall("CONSOLE.*", done.stderr)
