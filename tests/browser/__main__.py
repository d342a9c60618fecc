"""``python -m tests.browser``: draws two made-up reports on phone and desktop, light and dark, into out/, and runs axe on each.

The last line is JSON; the exit code is 1 when axe finds a serious or critical fault, or the page is wider than the screen.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser.audit import audit, picture

from subterra_testkit.runs.reports import page, paired, single

OUT = Path("out")
WIDTHS = {"phone": 390, "desktop": 1280}
HEIGHT = 6000


def main() -> int:
    """Prints what axe finds."""
    OUT.mkdir(exist_ok=True)
    serious = others = wide = 0
    for name, text in {"alone": page(single()), "compared": page(paired())}.items():
        file = OUT / f"report-{name}.html"
        file.write_text(text)
        for screen, width in WIDTHS.items():
            for dark in (False, True):
                look = f"{name}, {screen}, {'dark' if dark else 'light'}"
                picture(file, OUT / f"report-{look.replace(', ', '-')}.png", width, HEIGHT, dark=dark)
                with TemporaryDirectory() as folder:
                    found = audit(text, Path(folder), width, dark=dark)
                serious, others = serious + len(found.serious), others + len(found.findings) - len(found.serious)
                wide += found.width > width
                sys.stdout.write(f"{look}: {found.passes} rules pass, {len(found.findings)} do not\n")
                for each in found.findings:
                    sys.stdout.write(f"  {each.impact}: {each.rule} ({each.help}), {each.count}: {'; '.join(each.where)}\n")
    sys.stdout.write(json.dumps({"serious": serious, "others": others, "wider_than_the_screen": wide}) + "\n")
    return int(bool(serious or wide))


if __name__ == "__main__":
    sys.exit(main())
