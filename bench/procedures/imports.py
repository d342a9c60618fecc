"""``python -m bench.procedures.imports DIR``: how much of public processes, flows and agents an import takes over.

DIR has a folder for each source: a Rasa project, an exported Dialogflow CX agent, or BPMN files. Fetch them yourself, none comes
with Subterra. Prints a row of a table for each project, agent and process, then one line of JSON. Errors are what lint reports
besides gaps.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import CommandError
from subterra_cli.imports.bpmn import bpmn_flow
from subterra_cli.imports.bpmn.bpmn_xml import read_model
from subterra_cli.imports.dialogflow import dialogflow_flow
from subterra_cli.imports.dialogflow.dialogflow_agent import read_agent
from subterra_cli.imports.drafts.draft import Draft
from subterra_cli.imports.drafts.draft_procedure import to_procedure
from subterra_cli.imports.gap_count import figures
from subterra_cli.imports.rasa import rasa_flow
from subterra_cli.imports.rasa.rasa_project import read_project
from subterra_core.procedure.lint.analyse import analyse

_SMALLEST = 3
"""Nodes of a process that says enough to be measured."""


@dataclass(frozen=True)
class Row:
    """A source that was imported, or the reason why it was not."""

    source: str
    format: str
    nodes: int = 0
    complete: int = 0
    gaps: int = 0
    errors: int = 0
    left_out: int = 0
    refused: str = ""

    def __str__(self) -> str:
        """A row of the table."""
        if self.refused:
            return f"| {self.source} | {self.format} | refused: {self.refused} | | | | |"
        share = f"{self.complete / self.nodes:.0%}" if self.nodes else ""
        numbers = " | ".join(map(str, (self.nodes, f"{self.complete} ({share})", self.gaps, self.errors, self.left_out)))
        return f"| {self.source} | {self.format} | {numbers} |"


def measure(source: str, kind: str, draft: Callable[[], Draft]) -> Row:
    """The figures of one source."""
    try:
        read = draft()
        procedure = to_procedure(read, "imported")
    except CommandError as error:
        return Row(source, kind, refused=" ".join(str(error).split()))
    found = figures(procedure)
    spec = ProcedureSpec.model_validate(procedure["spec"])
    errors = [each for each in analyse(spec).errors if "a gap left by the import" not in each.problem]
    return Row(source, kind, found.nodes, found.complete, found.gaps, len(errors), len(read.notes))


def rows_of(folder: Path) -> Iterator[Row]:
    """The figures of all that a folder of sources has in it."""
    for source in sorted(each for each in folder.iterdir() if each.is_dir()):
        if agents := [file.parent for file in sorted(source.rglob("agent.json")) if (file.parent / "flows").is_dir()]:
            for agent in agents:
                yield measure(_named(agent, folder), "dialogflow", partial(_agent, agent))
        elif diagrams := sorted(source.rglob("*.bpmn")):
            for file in diagrams:
                yield from _processes(file, folder)
        else:
            yield measure(_named(source, folder), "rasa", partial(_project, source))


def _processes(file: Path, folder: Path) -> Iterator[Row]:
    """The figures of each process of a file."""
    try:
        model = read_model(file)
    except CommandError as error:
        yield Row(_named(file, folder), "bpmn", refused=" ".join(str(error).split()))
        return
    filled = {element.scope for element in model.elements.values()}
    for process in [key for key in model.processes if key in filled]:
        name = f"{_named(file, folder)} {model.processes[process]}".strip()
        row = measure(name, "bpmn", partial(bpmn_flow.to_draft, model, str(file), process))
        if row.nodes >= _SMALLEST or row.refused:
            yield row


def _agent(folder: Path) -> Draft:
    return dialogflow_flow.to_draft(read_agent(folder))


def _project(folder: Path) -> Draft:
    return rasa_flow.to_draft(read_project(folder))


def _named(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def table(rows: Iterable[Row]) -> str:
    """The rows below a head."""
    head = "| source | format | nodes | without a gap | gaps | errors | left out |\n|---|---|---|---|---|---|---|"
    return "\n".join((head, *map(str, rows)))


def main() -> int:
    """0 when the folder was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.procedures.imports", description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with a folder for each source")
    rows = [*rows_of(parser.parse_args().folder)]
    sys.stdout.write(f"{table(rows)}\n{json.dumps([asdict(row) for row in rows])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
