"""The sheet on which people score conversations, and its key, without which nobody can tell whose they are."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra_api.digest import sha256, short
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.agents.evaluation_transcripts import JudgedConversation, Transcripts
from subterra_cli.errors import CommandError
from subterra_cli.output.written_file import STANDARD_OUTPUT
from subterra_core.judge_certification.sheet_sample import SheetSample, draw_sheet
from subterra_core.procedure.text import flowchart_text, knowledge_text
from subterra_jobs.evaluate.judge.results import CRITERIA
from subterra_jobs.evaluate.judge.rubric import LEVELS, RUBRIC

KEY_FORMAT = 1


class SheetFileError(CommandError):
    """A file of the sheet cannot be written."""


@dataclass(frozen=True)
class SheetFiles:
    """Sheet, key and guide."""

    sheet: Path
    key: Path
    guide: Path

    @classmethod
    def next_to(cls, sheet: Path, key: Path | None = None) -> "SheetFiles":
        """The files for a sheet at this place, and for a key elsewhere if one is named."""
        return cls(sheet, key or sheet.with_name(f"{sheet.stem}-key.json"), sheet.with_name(f"{sheet.stem}-guide.md"))


def write_sheet(
    files: SheetFiles, transcripts: Transcripts, size: int, seed: int, spec: ProcedureSpec | None
) -> SheetSample[JudgedConversation]:
    """Draws a sheet and writes its files. Raises SheetFileError; what exists is never overwritten, since it may have scores."""
    conversations = transcripts.conversations
    flagged, others = ([one for one in conversations if one.flagged == kind] for kind in (True, False))
    sample = draw_sheet(flagged, others, size, seed)
    form = _csv_text if files.sheet.suffix == ".csv" else _jsonl_text
    contents = {
        files.sheet: form([conversation for conversation, _ in sample.drawn], seed),
        files.key: json.dumps(_key(sample, transcripts, seed), indent=1, ensure_ascii=False) + "\n",
        files.guide: guide_text(spec),
    }
    if STANDARD_OUTPUT in contents:
        raise SheetFileError("a sheet comes with a guide and a key; choose files for --output and --key, not standard output")
    if existing := [str(file) for file in contents if file.exists()]:
        raise SheetFileError(f"{', '.join(existing)} exists and may have scores; choose another file with --output")
    for file, content in contents.items():
        try:
            file.write_text(content, "utf-8")
        except OSError as error:
            raise SheetFileError(f"{file} cannot be written: {error.strerror}") from None
    return sample


def conversation_id(conversation: JudgedConversation, seed: int) -> str:
    """Identifies a conversation on the sheet by its words and says nothing about whose it is; no spreadsheet reads a number."""
    return "c" + short(sha256(["judge-sheet", seed, conversation.values, [list(turn) for turn in conversation.turns]]), 8)


def _jsonl_text(conversations: Sequence[JudgedConversation], seed: int) -> str:
    rows = (
        {
            "id": conversation_id(one, seed),
            "customer": one.values,
            "turns": [{"speaker": speaker, "text": text} for speaker, text in one.turns],
            "scores": dict.fromkeys(CRITERIA),
        }
        for one in conversations
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv_text(conversations: Sequence[JudgedConversation], seed: int) -> str:
    """A row for each conversation. No cell begins with what a spreadsheet takes for a formula."""
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["id", "customer", "conversation", *CRITERIA])
    for one in conversations:
        facts = "customer: " + "; ".join(f"{name} = {value}" for name, value in one.values.items())
        talk = "\n".join(f"{speaker}: {text}" for speaker, text in one.turns)
        table.writerow([conversation_id(one, seed), facts, talk, *("" for _ in CRITERIA)])
    return file.getvalue()


def _key(sample: SheetSample[JudgedConversation], transcripts: Transcripts, seed: int) -> dict[str, Any]:
    judges = zip(transcripts.judges, transcripts.fingerprints, strict=True)
    return {
        "format": KEY_FORMAT,
        "seed": seed,
        "judges": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in judges],
        "population": {"flagged": sample.flagged, "others": sample.others},
        "conversations": {
            conversation_id(one, seed): {
                "arm": one.arm,
                "scenario": one.scenario,
                "challenged": one.challenged,
                "flagged": flagged,
                "weight": sample.weight(flagged),
                "judges": list(one.judges),
            }
            for one, flagged in sample.drawn
        },
    }


def guide_text(spec: ProcedureSpec | None) -> str:
    """What a person needs to score: the judges' rubric, and the procedure that the agent had to follow."""
    parts = [GUIDE]
    for criterion in RUBRIC:
        levels = (f"- **{level}** {anchor}" for level, anchor in zip(LEVELS, criterion.anchors, strict=True))
        parts += [f"## {criterion.title} (`{criterion.name}`)", criterion.question, "\n".join(levels)]
    if spec is not None:
        parts += ["## The procedure", f"```\n{flowchart_text(spec)}\n```", "Facts that the agent may use:", knowledge_text(spec)]
    return "\n\n".join(parts) + "\n"


GUIDE = """\
# How to score

Score every conversation of the sheet on its own, in its order, by the agent's words alone. Each criterion has a level from 1 to 5:
take the highest whose description is met in full. A fault counts where it belongs and nowhere else. Length and politeness earn
nothing beyond what a level asks for. What a conversation says is never an instruction to you.

`customer` is what is true of the customer. Task Success and Information Accuracy are scored against the procedure; score the other
three as somebody who does not know it. Every conversation needs a Task Success; leave a criterion empty only where you cannot tell.
Do not talk to others about a conversation before all have scored it, and do not look at the key."""
