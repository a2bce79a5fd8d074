"""A page as headless Chromium sees it: what a script of ours finds in it, what the console says, how it looks.

CHROMIUM        the program, None where there is none (tests skip then)
looked_at       a page in a frame of any width, so that a phone's 390 px can be had, and what its probe answers
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_S = 300  # on a machine that is busy with other things
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{url}" style="border:0;width:{width}px;height:{height}px"></iframe>
<script>addEventListener("message", (event) => {{
  const node = document.createElement("pre");
  node.id = "answer";
  node.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(event.data))));
  document.body.append(node);
}});</script></body>"""


PROBE = """<script>setTimeout(async () => {{
  const all = (query) => [...document.querySelectorAll(query)];
  const one = (query) => document.querySelector(query);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const answer = (value) => {{
    if (parent !== window) return parent.postMessage(value, "*");
    const node = document.createElement("pre");
    node.id = "answer";
    node.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(value))));
    document.body.append(node);
  }};
  try {{ {script} }} catch (error) {{ answer("error: " + error + error.stack); }}
}}, {wait_ms})</script></body>"""


def probed(page: str, script: str, wait_ms: int = 400) -> str:
    """The page with a script that answers with `answer(value)` once the page has come to life."""
    return page.replace("</body>", PROBE.format(script=script, wait_ms=wait_ms))


def looked_at(
    url: str,
    folder: Path,
    width: int,
    height: int = 2000,
    budget_ms: int = 4000,
    picture: Path | None = None,
    framed: bool = True,
    trace: Path | None = None,
    dark: bool = False,
) -> Any:
    """What the probe of the page at `url` answers, seen `width` px wide; a console message is an error.

    With `picture` a PNG is taken instead and None comes back. `framed` False: the page alone, at least 500 wide.
    `budget_ms` of virtual time, which runs as fast as it can; 0: real time, until the page has loaded. `trace`: where
    Chromium writes what its threads did. `dark`: for a reader who prefers dark pages.
    """
    frame = folder / f"frame-{width}.html"
    frame.write_text(FRAME.format(url=html.escape(url), width=width, height=height), encoding="utf-8")
    output = ["--dump-dom"] if picture is None else [f"--screenshot={picture}", "--hide-scrollbars"]
    tracing = ["--trace-startup=toplevel", f"--trace-startup-file={trace}", "--trace-startup-format=json"]
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-quic", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 500)},{height}",
        *([f"--virtual-time-budget={budget_ms}"] if budget_ms else []),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *(tracing if trace is not None else []), *output, frame.as_uri() if framed else url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
    console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
    assert not console, console
    if picture is not None:
        return None
    found = re.search(r'<pre id="answer">([^<]*)</pre>', done.stdout.decode())
    assert found is not None, "the page's probe did not answer"
    answer = json.loads(base64.b64decode(found[1]))
    assert not str(answer).startswith("error: "), answer
    return answer
