"""Draws docs/architecture.svg, the figure of the README. ``make figure`` writes it; ``--check`` fails when it is out of date.

One file for light and dark: colors are classes, and a media query swaps them. The panel is opaque, so the figure stays legible
where the page's theme is not the reader's.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

FIGURE = Path(__file__).parents[1] / "architecture.svg"
WIDTH, HEIGHT = 1280, 690

LIGHT = {
    "panel": "#f8f9fb",
    "lane": "#eef1f6",
    "card": "#ffffff",
    "edge": "#d4dae4",
    "title": "#1b2330",
    "text": "#566173",
    "arrow": "#7d889b",
    "blue": "#2f6fdb",
    "violet": "#7a4fd0",
    "green": "#1c8a5a",
    "amber": "#b96f09",
    "slate": "#64748b",
}
DARK = {
    "panel": "#11161e",
    "lane": "#181f2a",
    "card": "#202937",
    "edge": "#364254",
    "title": "#eef2f8",
    "text": "#a9b4c4",
    "arrow": "#8492a8",
    "blue": "#6ba2ff",
    "violet": "#b294ff",
    "green": "#4fcf96",
    "amber": "#f2b24c",
    "slate": "#9fb0c7",
}
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


def rules(colors: dict[str, str]) -> str:
    """CSS of one theme: a fill class per color, and the strokes of cards and arrows."""
    fills = [f".{name}{{fill:{color}}}" for name, color in colors.items()]
    strokes = [f".card,.lane,.panel{{stroke:{colors['edge']}}}", f".line{{stroke:{colors['arrow']}}}"]
    return "".join([*fills, *strokes])


def style() -> str:
    """The style sheet."""
    shapes = ".line{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 5}text{font-family:" + FONT + "}"
    sizes = ".h{font-size:20px;font-weight:650}.s{font-size:15.5px}.n{font-size:14.5px;font-weight:600}"
    anchors = ".m{text-anchor:middle}.e{text-anchor:end}"
    return f"<style>{shapes}{sizes}{anchors}{rules(LIGHT)}@media(prefers-color-scheme:dark){{{rules(DARK)}}}</style>"


def text(x: float, y: float, content: str, classes: str) -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{classes}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, classes: str, radius: float = 12) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{classes}"/>'


def card(x: float, y: float, width: float, height: float, color: str, title: str, lines: Iterable[str], note: str = "") -> str:
    """A card: a colored bar, a title, perhaps a note at the right of it, lines of text."""
    bar = box(x + 18, y + 17, 5, 20, color, 2.5)
    rows = [text(x + 18, y + 62 + 23 * index, line, "s text") for index, line in enumerate(lines)]
    beside = text(x + width - 18, y + 33, note, "s text e") if note else ""
    return "".join([box(x, y, width, height, "card"), bar, text(x + 33, y + 34, title, "h title"), beside, *rows])


def chip(x: float, y: float, width: float, name: str, color: str) -> str:
    """A word in a pill."""
    return box(x, y, width, 36, "lane", 18) + text(x + width / 2, y + 23, name, f"n m {color}")


def chips(x: float, y: float, width: float, names: list[str], color: str) -> str:
    """Steps in a row, joined by arrows."""
    gap = 34
    each = (width - gap * (len(names) - 1)) / len(names)
    lefts = [x + index * (each + gap) for index in range(len(names))]
    pills = [chip(left, y, each, name, color) for left, name in zip(lefts, names, strict=True)]
    return "".join([*pills, *(arrow(f"M{left - gap + 5:g} {y + 18:g}H{left - 7:g}") for left in lefts[1:])])


def arrow(path: str, *, both: bool = False, dashed: bool = False) -> str:
    """A line with an arrow at its end, or at both."""
    start = ' marker-start="url(#head)"' if both else ""
    return f'<path d="{path}" class="line{" dashed" if dashed else ""}"{start} marker-end="url(#head)"/>'


def control() -> str:
    """The upper row: Git, the operator, Prometheus."""
    git = card(36, 36, 236, 160, "blue", "Git", [], "Argo CD · Flux")
    kinds = chip(54, 88, 200, "Procedure", "blue") + chip(54, 134, 200, "CompiledAgent", "blue")
    operator = card(340, 36, 500, 160, "blue", "Operator", [])
    steps = chips(358, 88, 464, ["watch", "decide", "apply"], "blue")
    note = text(358, 162, "level-triggered; decisions are pure functions", "s text")
    prometheus = card(920, 36, 324, 86, "slate", "Prometheus", ["progress · US dollars · price"])
    arrows = [arrow("M274 116H332"), arrow("M842 79H912", dashed=True)]
    return "".join([git, kinds, operator, steps, note, prometheus, *arrows])


STAGES = (
    ("generate", "violet", "Ray", ("a teacher writes", "conversations")),
    ("train", "violet", "DeepSpeed", ("fine-tunes a", "small model")),
    ("evaluate", "violet", "vLLM", ("customers play,", "judges score")),
    ("gate", "green", "statistics", ("Pass, Fail or", "Inconclusive")),
)


def stage(index: int, name: str, color: str, engine: str, lines: Iterable[str]) -> str:
    """The card of a stage, with its engine."""
    x = 56 + 194 * index
    return card(x, 308, 166, 138, color, name, ["", *lines]) + text(x + 18, 370, engine, f"n {color}")


def compile_run() -> str:
    """The middle row: a lane with the stages, then serving and its customers."""
    lane = box(36, 260, 804, 206, "lane", 16) + text(56, 291, "CompileRun", "h title")
    note = text(822, 290, "one per digest of procedure and settings", "s text e")
    cards = [stage(index, *each) for index, each in enumerate(STAGES)]
    between = [arrow(f"M{224 + 194 * index} 377H{243 + 194 * index}") for index in range(3)]
    serving = card(920, 260, 230, 206, "green", "Serving", ["OpenAI-compatible API,", "one call per turn"])
    parts = chip(938, 364, 194, "vLLM", "green") + chip(938, 410, 194, "price exporter", "green")
    down = [arrow("M590 198V252"), text(603, 234, "Jobs", "n text"), arrow("M842 156H973Q985 156 985 168V252")]
    across = [text(858, 147, "traffic", "n text"), arrow("M806 377H912"), text(880, 366, "Pass", "n m green")]
    scraped = arrow("M1092 258V130", dashed=True)
    return "".join([lane, note, *cards, *between, serving, parts, customers(), *down, *across, scraped])


def customers() -> str:
    """A speech bubble in which somebody is writing."""
    bubble = "M1202 330q0-14 14-14h18q14 0 14 14v14q0 14-14 14h-12l-13 13v-13q-7-2-7-14z"
    dots = [f'<circle cx="{x}" cy="337" r="3.2" class="arrow"/>' for x in (1214, 1225, 1236)]
    return "".join(
        [
            f'<path d="{bubble}" class="card"/>',
            *dots,
            text(1222, 396, "customers", "n m text"),
            arrow("M1154 337H1194", both=True),
        ]
    )


def below() -> str:
    """The lower row: providers and the store."""
    paid = ["Anthropic · OpenAI · your own vLLM", "rate-limited, capped in US dollars, each response paid once"]
    providers = card(36, 546, 582, 108, "amber", "Model providers", paid, "optional")
    kept = ["datasets · models · reports · paid responses · ledger", "content-addressed: nothing is made twice"]
    store = card(646, 546, 598, 108, "slate", "Store", kept, "a volume, or S3")
    calls = [arrow(f"M{x} 454V538", both=True) for x in (139, 527)]
    artifacts = [arrow("M721 474V538", both=True), arrow("M1035 544V474")]
    labels = [text(152, 512, "calls", "n text"), text(540, 512, "calls", "n text")]
    labels += [text(734, 512, "artifacts", "n text"), text(1048, 512, "weights", "n text")]
    return "".join([providers, store, *calls, *artifacts, *labels])


def figure() -> str:
    """The whole file."""
    head = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="7" refY="5" markerWidth="6.5" markerHeight="6.5" '
        'orient="auto-start-reverse"><path d="M0 0.8L9 5L0 9.2z" class="arrow"/></marker></defs>'
    )
    label = "Git, the operator, the stages of a compile run, serving, providers and the store"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">',
        style(),
        head,
        box(1, 1, WIDTH - 2, HEIGHT - 2, "panel", 20),
        control(),
        compile_run(),
        below(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Writes the figure; with ``--check`` only compares."""
    drawn = figure()
    if "--check" in sys.argv[1:]:
        if FIGURE.exists() and FIGURE.read_text(encoding="utf-8") == drawn:
            return 0
        sys.stderr.write("docs/architecture.svg is not what its generator writes; run make figure\n")
        return 1
    FIGURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
