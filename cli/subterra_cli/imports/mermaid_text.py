"""Reads Mermaid flowcharts: nodes of all shapes, chains, `&`, labels, subgraphs. Pure."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from subterra_cli.errors import CommandError

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*mermaid\b[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_FRONT_MATTER = re.compile(r"\A\s*---\n.*?\n---\s*\n", re.DOTALL)
_COMMENT = re.compile(r"^[ \t]*%%[^\n]*$", re.MULTILINE)
_HEADER = re.compile(r"\s*(?:flowchart|graph)(?:-elk)?(?:[ \t]+(?:TB|TD|BT|RL|LR|[<>^v]))?[ \t]*(?=;|\n|$)")
_START = re.compile(r"^[ \t]*%% start: (\S+)[ \t]*$", re.MULTILINE)
_DECIDES = re.compile(r"^[ \t]*%% decides (\S+): (\w+)[ \t]*$", re.MULTILINE)
_QUESTIONS = re.compile(r"^[ \t]*%% questions: (\S+)[ \t]*$", re.MULTILINE)
_ANYWHERE = re.compile(r"^[ \t]*%% anywhere: (\S+)[ \t]*$", re.MULTILINE)
_EXCEPT = re.compile(r"^[ \t]*%% except (\S+): (\S+(?:, \S+)*)[ \t]*$", re.MULTILINE)
_NODE = re.compile(r"\w[\w./]*(?:-(?![-.>])[\w./]+)*")
_EDGE_ID = re.compile(r"\w+@(?=[<xo]?[-=~])")
_LINK = re.compile(r"([<xo])?(?:--+[->xo]|==+[=>xo]|-\.+-[>xo]?|(~~~+))")
_LABELED = re.compile(r'([<xo])?(?:--|==|-\.)[ \t]*(?P<text>"[^"]*"|[^\n"]+?)[ \t]*(?:--+[->xo]|==+[=>xo]|\.+-[>xo]?)')
_PIPED = re.compile(r'\s*\|\s*("[^"]*"|[^|"]*)\s*\|')
_CLASS = re.compile(r":::([\w-]+)")
_NEW_SHAPE = re.compile(r'@\{((?:[^{}"]|"[^"]*")*)\}')
_NEW_LABEL = re.compile(r'\blabel\s*:\s*("[^"]*"|[^,}]+)')
_IGNORED = re.compile(r"(?:classDef|style|linkStyle|click|direction|accTitle|accDescr)\b[^\n;]*")
_ASSIGNED = re.compile(r"class[ \t]+([\w, \t-]+?)[ \t]+([\w-]+)[ \t]*(?=;|\n|$)")
_SUBGRAPH = re.compile(r'subgraph\b[ \t]*([^\n\["]*?)[ \t]*(?:\[[^\n]*\]|"[^"\n]*")?[ \t]*(?=;|\n|$)')
_END = re.compile(r"end\b[ \t]*(?=;|\n|$)")
_CODE = re.compile(r"#(\d+|\w+);")
_SHAPES = (
    ("(((", (")))",), "circle"),
    ("((", ("))",), "circle"),
    ("([", ("])",), "stadium"),
    ("[[", ("]]",), "rectangle"),
    ("[(", (")]",), "cylinder"),
    ("[/", ("/]", "\\]"), "parallelogram"),
    ("[\\", ("\\]", "/]"), "parallelogram"),
    ("{{", ("}}",), "hexagon"),
    ("{", ("}",), "rhombus"),
    ("(", (")",), "round"),
    ("[", ("]",), "rectangle"),
    (">", ("]",), "rectangle"),
)


class MermaidError(CommandError):
    """The text is no flowchart that can be read; the message says where and what to do."""


@dataclass
class Box:
    """A node. `text` is what it shows, with line breaks."""

    name: str
    text: str = ""
    shape: str = "rectangle"
    classes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Arrow:
    """An edge with its label; empty if it has none."""

    source: str
    target: str
    label: str = ""


@dataclass
class Flowchart:
    """The nodes in the order in which they come up, and the edges. Subgraphs are flattened."""

    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[Arrow] = field(default_factory=list)
    start: str | None = None
    """The node that a comment names as the first one, as in what `subterra graph` writes."""
    decides: dict[str, str] = field(default_factory=dict)
    """By hub what such comments say that decides there: `history`, or the name of a fact."""
    anywhere: str | None = None
    """The box of the edges that the customer may take at any turn, which a comment names."""
    exceptions: dict[str, list[str]] = field(default_factory=dict)
    """For targets of its edges, the nodes at which such comments say that the edge is closed."""


def flowcharts_in(text: str) -> list[str]:
    """The flowcharts of a Markdown text's fences, or the text itself if it is one."""
    fenced = [match[2] for match in _FENCE.finditer(text)]
    return [chart for chart in fenced or [text] if _HEADER.match(_without_comments(chart))]


def read_text(file: Path) -> str:
    """The text of a file. Raises MermaidError."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise MermaidError(f"{file}: cannot be read: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise MermaidError(f"{file}: is not UTF-8: byte {error.object[error.start]:#04x}; save the file as UTF-8") from None


def choose_chart(text: str, file: str, number: int | None) -> str:
    """The only flowchart of `text`, or the one with this number. Raises MermaidError."""
    charts = flowcharts_in(text)
    if not charts:
        raise MermaidError(f"{file}: no Mermaid flowchart in it; one begins with `flowchart TD`, `graph LR` or the like")
    if number is None and len(charts) > 1:
        raise MermaidError(f"{file}: {len(charts)} flowcharts in it; choose one with --chart 1 to --chart {len(charts)}")
    if (number or 1) > len(charts):
        raise MermaidError(f"{file}: there is no flowchart {number}, only {len(charts)}; correct --chart")
    return charts[(number or 1) - 1]


def _without_comments(text: str) -> str:
    return _COMMENT.sub("", _FRONT_MATTER.sub("", text.replace("\r\n", "\n")))


def parse_flowchart(text: str) -> Flowchart:
    """The flowchart that `text` draws. Raises MermaidError."""
    plain = _without_comments(text)
    header = _HEADER.match(plain)
    if not header:
        raise MermaidError("no Mermaid flowchart: the first line must be `flowchart TD`, `graph LR` or the like")
    reader = _Reader(plain, header.end())
    reader.read()
    questions = _QUESTIONS.search(text)  # their box has no answers, so there is nothing to import
    boxes = {name: box for name, box in reader.boxes.items() if questions is None or name != questions[1]}
    chart = Flowchart(boxes, list(_flattened(reader)))
    start = _START.search(text)
    chart.start = start[1] if start and start[1] in chart.boxes else None
    chart.decides = dict(_DECIDES.findall(text))
    anywhere = _ANYWHERE.search(text)
    chart.anywhere = anywhere[1] if anywhere and anywhere[1] in chart.boxes else None
    chart.exceptions = {target: nodes.split(", ") for target, nodes in _EXCEPT.findall(text)}
    return chart


class _Reader:
    """Reads statement after statement."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.boxes: dict[str, Box] = {}
        self.arrows: list[Arrow] = []
        self.groups: dict[str, list[str]] = {}
        self._open: list[str] = []

    def read(self) -> None:
        """Reads to the end of the text. Raises MermaidError."""
        while self._skip(" \t\n;") < len(self.text):
            if self._take(_IGNORED):
                continue
            if assigned := self._take(_ASSIGNED):
                for name in re.split(r"[,\s]+", assigned[1].strip()):
                    self._box(name).classes.append(assigned[2])
            elif group := self._take(_SUBGRAPH):
                self._open.append(group[1] or f"subgraph {len(self.groups)}")
                self.groups.setdefault(self._open[-1], [])
            elif self._take(_END):
                self._open = self._open[:-1]
            else:
                self._chain()

    def _chain(self) -> None:
        """`A & B --> C -->|label| D`."""
        sources = self._nodes()
        while (link := self._link()) is not None:
            label, drawn, both = link
            targets = self._nodes()
            ends = [(source, target) for source in sources for target in targets]
            for source, target in ends if drawn else []:
                self.arrows.append(Arrow(source, target, label))
                self.arrows += [Arrow(target, source, label)] if both else []
            sources = targets
        if self._skip(" \t") < len(self.text) and self.text[self.at] not in "\n;":
            raise self._error("cannot be read from here")

    def _nodes(self) -> list[str]:
        names = [self._node()]
        while self._take(re.compile(r"\s*&\s*")):
            names.append(self._node())
        return names

    def _node(self) -> str:
        self._skip(" \t\n")
        found = self._take(_NODE)
        if not found:
            raise self._error("a node is expected here")
        box = self._box(found[0])
        if new := self._take(_NEW_SHAPE):
            label = _NEW_LABEL.search(new[1])
            box.text = shown(label[1]) if label else box.text
            box.shape = "rhombus" if re.search(r"shape\s*:\s*(diam|decision|diamond|question)\b", new[1]) else box.shape
        else:
            self._shape(box)
        if named := self._take(_CLASS):
            box.classes.append(named[1])
        return box.name

    def _shape(self, box: Box) -> None:
        for opening, closings, shape in _SHAPES:
            if self.text.startswith(opening, self.at):
                self.at += len(opening)
                box.shape, box.text = shape, shown(self._until(closings))
                return

    def _until(self, closings: tuple[str, ...]) -> str:
        """The text up to one of `closings`, which may stand in quotes."""
        if quoted := self._take(re.compile(r'\s*"([^"]*)"\s*')):
            closing = next((each for each in closings if self.text.startswith(each, self.at)), None)
            text = f'"{quoted[1]}"'
        else:
            ends = [(self.text.find(each, self.at), each) for each in closings if each in self.text[self.at :]]
            end, closing = min(ends, default=(self.at, None))
            text, self.at = self.text[self.at : end], end
        if closing is None:
            raise self._error(f"{' or '.join(closings)} is missing")
        self.at += len(closing)
        return text

    def _link(self) -> tuple[str, bool, bool] | None:
        """Label, whether it is drawn, and whether it leads both ways; `None` if there is no link here."""
        begin = self.at
        self._skip(" \t")
        self._take(_EDGE_ID)
        if link := self._take(_LINK):
            piped = self._take(_PIPED)
            return shown(piped[1]) if piped else "", not link[2], link[1] == "<"
        if labeled := self._take(_LABELED):
            return shown(labeled["text"]), True, labeled[1] == "<"
        self.at = begin
        return None

    def _box(self, name: str) -> Box:
        if name not in self.boxes:
            self.boxes[name] = Box(name)
        for group in self._open:
            if name not in self.groups[group]:
                self.groups[group].append(name)
        return self.boxes[name]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found

    def _skip(self, characters: str) -> int:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1
        return self.at

    def _error(self, problem: str) -> MermaidError:
        line = self.text.count("\n", 0, self.at) + 1
        rest = self.text[self.at :].partition("\n")[0][:40]
        return MermaidError(f"line {line} of the flowchart: {problem}: {rest!r}; correct it, or check it at https://mermaid.live")


def shown(text: str) -> str:
    """What Mermaid shows for a label: without quotes and tags, with character codes replaced."""
    text = text.strip().removeprefix('"').removesuffix('"').strip().removeprefix("`").removesuffix("`")
    text = re.sub(r"<br\s*/?>|\\n", "\n", text)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    coded = _CODE.sub(lambda code: chr(int(code[1])) if code[1].isdigit() else html.unescape(f"&{code[1]};"), text)
    return "\n".join(line.strip() for line in html.unescape(coded).splitlines()).strip()


def _flattened(reader: _Reader) -> Iterator[Arrow]:
    """Edges between nodes: one that leads to a subgraph enters it at its first nodes, one from it leaves from its last."""
    groups = {name: members for name, members in reader.groups.items() if name in reader.boxes and members}
    for name in groups:
        del reader.boxes[name]
    entries = {name: _outer(groups, reader.arrows, name, "target") for name in groups}
    exits = {name: _outer(groups, reader.arrows, name, "source") for name in groups}
    for arrow in reader.arrows:
        for source in exits.get(arrow.source, [arrow.source]):
            for target in entries.get(arrow.target, [arrow.target]):
                yield Arrow(source, target, arrow.label)


def _outer(groups: dict[str, list[str]], arrows: Iterable[Arrow], name: str, end: str) -> list[str]:
    """Members of a subgraph that are no `end` of an edge inside of it; if all are, the first one or the last one."""
    members = [member for member in groups[name] if member not in groups]
    inner = {getattr(arrow, end) for arrow in arrows if arrow.source in members and arrow.target in members}
    return [member for member in members if member not in inner] or (members[:1] if end == "target" else members[-1:])
