"""People's scores of conversations next to the judges', from a filled-in sheet and its key, or from one file with both."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subterra_cli.agents.judge_sheet import KEY_FORMAT
from subterra_cli.errors import CommandError
from subterra_core.judge_certification.certificate import Population
from subterra_jobs.evaluate.judge.results import CRITERIA, HIGHEST, LOWEST, TASK

_KEY_FIELDS = {"challenged", "flagged", "weight", "judges"}
Row = tuple[int, Mapping[str, Any]]
"""Number of the row's first line, and its fields."""


class ScoresFileError(CommandError):
    """Files without usable scores; the message has all errors with their lines."""


@dataclass(frozen=True)
class ScoredConversation:
    """One conversation with the scores of people and of every judge."""

    people: Mapping[str, float]
    judges: tuple[Mapping[str, float], ...]
    challenged: bool
    flagged: bool
    weight: float
    id: str = ""
    """On the sheet; it is the same for equal words."""


@dataclass(frozen=True)
class ScoredSheet:
    """All conversations of a sheet; `population` is `None` for a simple random sample."""

    conversations: tuple[ScoredConversation, ...]
    judges: tuple[str, ...]
    fingerprints: tuple[str, ...]
    population: Population | None


@dataclass
class _Reading:
    """What was read of a file, and what is wrong with it."""

    file: Path
    errors: list[str] = field(default_factory=list)

    def wrong(self, line: int, what: str) -> None:
        self.errors.append(f"{self.file}:{line}: {what}")


def read_scores(file: Path, key_file: Path | None) -> ScoredSheet:
    """The scores in `file`, with the judges' from the key or, without one, from the file itself. Raises ScoresFileError."""
    key = _read_key(key_file) if key_file else None
    reading = _Reading(file)
    people, judges = dict[str, Mapping[str, float]](), dict[str, tuple[Mapping[str, float], ...]]()
    for line, row in _rows(reading):
        name = str(row.get("id") or "").strip()
        if not name:
            reading.wrong(line, "id is missing; every conversation needs one")
        elif name in people:
            reading.wrong(line, f"{name} was scored before; keep one row per conversation")
        elif key is not None and name not in key["conversations"]:
            reading.wrong(line, f"{name} is not in {key_file}; pass the key that was written with this sheet")
        people[name] = _scores(reading, line, row.get("scores"), "scores")
        if key is None:
            judges[name] = _judges_of_row(reading, line, row)
    missing = [name for name in key["conversations"] if name not in people] if key is not None else []
    reading.errors += [f"{file}: {name} is missing; score every conversation of the sheet" for name in missing]
    if not people and not reading.errors:
        reading.errors.append(f"{file}: there are no conversations")
    if len({len(scores) for scores in judges.values()}) > 1 and not reading.errors:
        reading.errors.append(f"{file}: conversations have different numbers of judges; give every judge's scores of each")
    if reading.errors:
        raise ScoresFileError("\n".join(reading.errors))
    return _simple_sample(people, judges) if key is None else _by_key(people, key)


def _rows(reading: _Reading) -> Iterator[Row]:
    """Rows of a JSONL file or, by its ending, of a CSV file."""
    try:
        text = reading.file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ScoresFileError(f"{reading.file} cannot be read: {reason}") from None
    yield from _csv_rows(reading, text) if reading.file.suffix == ".csv" else _jsonl_rows(reading, text)


def _jsonl_rows(reading: _Reading, text: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            reading.wrong(line, f"this is not JSON ({error})")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            reading.wrong(line, 'this is no object; a row is {"id": …, "scores": {…}}')


def _csv_rows(reading: _Reading, text: str) -> Iterator[Row]:
    """Spreadsheets of some languages separate by semicolons, and a cell may have several lines."""
    header = text.partition("\n")[0]
    table = csv.DictReader(text.splitlines(keepends=True), delimiter=";" if header.count(";") > header.count(",") else ",")
    if missing := [name for name in ("id", TASK) if name not in (table.fieldnames or ())]:
        reading.wrong(1, f"there is no column {' and no column '.join(missing)}; keep the header of the sheet")
        return
    line = table.line_num + 1
    for row in table:
        yield line, {"id": row["id"], "scores": {name: _number(row.get(name)) for name in CRITERIA}}
        line = table.line_num + 1


def _number(cell: str | None) -> float | str | None:
    """The number in a cell, the cell's text if it is none, and `None` for an empty cell."""
    text = (cell or "").strip()
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        return text


def _scores(reading: _Reading, line: int, given: Any, name: str) -> Mapping[str, float]:
    """The valid scores; those left empty are not among them."""
    if not isinstance(given, dict):
        reading.wrong(line, f'{name} is missing; it has the level of each criterion, such as {{"{TASK}": 4}}')
        return {}
    found = dict[str, float]()
    for criterion, score in given.items():
        if criterion not in CRITERIA:
            reading.wrong(line, f"{name}.{criterion}: there is no such criterion, only {', '.join(CRITERIA)}")
        elif isinstance(score, int | float) and not isinstance(score, bool) and LOWEST <= score <= HIGHEST:
            found[criterion] = float(score)
        elif score is not None:
            reading.wrong(line, f"{name}.{criterion} is {score!r}; a level is a number from 1 to 5")
    if given.get(TASK) is None:
        reading.wrong(line, f"{name}.{TASK} is missing; every conversation needs one")
    return found


def _judges_of_row(reading: _Reading, line: int, row: Mapping[str, Any]) -> tuple[Mapping[str, float], ...]:
    given = row.get("judges")
    if not isinstance(given, list) or not given:
        reading.wrong(line, "judges is missing; pass the sheet's key with --key, or a list with the scores of each judge")
        return ()
    return tuple(_scores(reading, line, scores, f"judges[{index}]") for index, scores in enumerate(given))


def _read_key(file: Path) -> Mapping[str, Any]:
    try:
        key = json.loads(file.read_text())
        known = key["format"] == KEY_FORMAT and all(
            set(one) >= _KEY_FIELDS and len(one["judges"]) == len(key["judges"]) for one in key["conversations"].values()
        )
        known = known and all(key["population"][kind] >= 0 for kind in ("flagged", "others"))
    except OSError as error:
        raise ScoresFileError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise ScoresFileError(f"{file} is not the key of a sheet; pass the file that `subterra judge sheet` wrote with it")
    return dict(key)


def _by_key(people: Mapping[str, Mapping[str, float]], key: Mapping[str, Any]) -> ScoredSheet:
    known, judges = key["conversations"], key["judges"]
    return ScoredSheet(
        tuple(
            ScoredConversation(
                scores,
                tuple(known[name]["judges"]),
                known[name]["challenged"],
                known[name]["flagged"],
                known[name]["weight"],
                name,
            )
            for name, scores in people.items()
        ),
        tuple(judge["name"] for judge in judges),
        tuple(judge["fingerprint"] for judge in judges),
        Population(key["population"]["flagged"], key["population"]["others"], len(judges)),
    )


def _simple_sample(people: Mapping[str, Mapping[str, float]], judges: Mapping[str, tuple[Mapping[str, float], ...]]) -> ScoredSheet:
    conversations = tuple(ScoredConversation(people[name], judges[name], True, False, 1.0) for name in people)
    names = tuple(f"judge {index + 1}" for index in range(len(conversations[0].judges)))
    return ScoredSheet(conversations, names, (), None)
