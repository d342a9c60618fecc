"""Runs axe-core on a page in headless Chromium, without any other tool: the page tells its findings in its own text."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
"""``npm ci`` in this folder brings it."""
DARK = "--blink-settings=preferredColorScheme=0"
SERIOUS = ("serious", "critical")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_RUN = """
for (const each of document.querySelectorAll('details')) each.open = true;
axe.run(document).then(found => {
  const told = found.violations.map(each => ({rule: each.id, impact: each.impact, help: each.help,
    where: each.nodes.map(node => node.target.join(' ')).slice(0, 3), count: each.nodes.length}));
  const dark = matchMedia('(prefers-color-scheme: dark)').matches, width = document.documentElement.scrollWidth;
  parent.postMessage(JSON.stringify({violations: told, passes: found.passes.length, dark, width}), '*');
});
"""
_FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe src="page.html" style="width: {width}px; height: 2000px; border: 0"></iframe><script>
addEventListener('message', event => {{
  const pre = document.createElement('pre');
  pre.id = 'axe-result';
  pre.textContent = event.data;
  document.body.append(pre);
}});
</script>"""
"""Windows are never narrower than 500 pixels; frames are."""


@dataclass(frozen=True)
class Finding:
    """What axe says against a page; ``impact`` is minor, moderate, serious or critical."""

    rule: str
    impact: str
    help: str
    where: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Audit:
    """All findings, the number of rules that passed, in which colours, and how wide the page wants to be."""

    findings: tuple[Finding, ...]
    passes: int
    dark: bool
    width: int

    @property
    def serious(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.impact in SERIOUS)


def chromium() -> str | None:
    """The browser, if there is one."""
    return next((found for name in _CHROMIUM if (found := shutil.which(name))), None)


def audit(page: str, folder: Path, width: int, *, dark: bool = False) -> Audit:
    """What axe finds in the page as drawn at this width. The copy that is looked at allows scripts; the page itself does not."""
    scripts = f"<script>{AXE.read_text()}</script><script>{_RUN}</script>"
    (folder / "page.html").write_text(_POLICY.sub("", page) + scripts)
    (folder / "frame.html").write_text(_FRAME.format(width=width))
    told = browse(folder / "frame.html", 1600, dark, "--virtual-time-budget=60000", "--dump-dom")
    match = re.search(r'<pre id="axe-result">(.*?)</pre>', told, re.DOTALL)
    if match is None:
        raise RuntimeError("axe gave no result")
    found = json.loads(unescape(match.group(1)))
    violations = tuple(Finding(**{**each, "where": tuple(each["where"])}) for each in found["violations"])
    return Audit(violations, found["passes"], found["dark"], found["width"])


def picture(page: Path, to: Path, width: int, height: int, *, dark: bool = False) -> None:
    """A PNG of the page's first ``height`` pixels."""
    browse(page, width, dark, f"--screenshot={to.resolve()}", "--hide-scrollbars", height=height)


def browse(page: Path, width: int, dark: bool, *flags: str, height: int = 1200) -> str:
    """Chromium's standard output."""
    program = chromium()
    if program is None:
        raise RuntimeError("there is no Chromium")
    looks: Sequence[str] = [DARK] if dark else []
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}", *looks, *flags]
    return subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
