"""Writes the pictures of examples that the guides show, or with ``--check`` says which of them are out of date."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.load_procedure import from_file
from subterra_core.drawing.svg import draw_svg

ROOT = Path(__file__).parents[2]
FOLDED = {
    "docs/questions.svg": "library",
    "docs/constructs/tools.svg": "orders",
    "docs/constructs/anywhere.svg": "delivery",
    "docs/constructs/calls.svg": "bank",
}
"""Pictures as `subterra graph` draws them, with the folder of their example."""
UNFOLDED = {"docs/constructs/details.svg": ("bank", "transfer")}
"""The nodes for which one node stands, from the picture with ``--unfold``."""


def main() -> int:
    """Exit code: 1 if a picture is out of date, else 0."""
    old = [file for file in (*FOLDED, *UNFOLDED) if not _is_current(ROOT / file, _picture(file))]
    if "--check" in sys.argv:
        for file in old:
            sys.stderr.write(f"{file} is out of date; run `make generate`\n")
        return 1 if old else 0
    for file in old:
        (ROOT / file).parent.mkdir(exist_ok=True)
        (ROOT / file).write_text(_picture(file))
    return 0


def _picture(file: str) -> str:
    """The picture's text; of a whole procedure, the same as the command prints."""
    example, node = UNFOLDED.get(file, (FOLDED.get(file), ""))
    source = from_file(str(ROOT / f"examples/{example}/procedure.yaml"))
    spec = _behind(source.spec, node) if node else source.written
    return ET.tostring(draw_svg(spec, source.name), encoding="unicode") + "\n"


def _behind(spec: ProcedureSpec, node: str) -> ProcedureSpec:
    """The procedure with nothing but the nodes for which `node` stands, and where they lead."""
    inside = [each for each in spec.nodes if each.id == node or each.id.startswith(f"{node}__")]
    kept = {each.id for each in inside} | {edge.to for each in inside for edge in each.next}
    return spec.model_copy(update={"start": node, "nodes": tuple(each for each in spec.nodes if each.id in kept)})


def _is_current(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
