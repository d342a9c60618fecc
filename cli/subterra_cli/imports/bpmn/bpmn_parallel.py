"""Puts parallel branches of a draft one after the other: in a conversation one thing is said at a time. Pure."""

from dataclasses import replace
from itertools import pairwise

from subterra_cli.imports.drafts.draft import Draft, Step, Way
from subterra_core.procedure.lint.gaps import GAP


def put_in_sequence(draft: Draft, splits: list[str]) -> None:
    """Leads from the end of each branch of a split to the next branch, and from the last one to where they join.

    Branches that share steps other than those behind the join have no such order: the split becomes a choice with a gap.
    """
    for key in sorted(splits, key=lambda split: len(_inside(draft, split, set()))):
        _sequence(draft, draft.steps[key])


def _sequence(draft: Draft, split: Step) -> None:
    branches = [way.to for way in split.ways]
    join = _join(draft, branches)
    stops = {split.key, *([join] if join else [])}
    regions = [_inside(draft, branch, stops) for branch in branches]
    shared = any(one & other for index, one in enumerate(regions) for other in regions[index + 1 :])
    if shared or split.key in set().union(*regions):
        split.kind = "choice"
        split.prompt = f"{GAP}{split.name}: all of these happen, in no order that could be read; put them in a row"
        return
    busy = [(branch, region) for branch, region in zip(branches, regions, strict=True) if branch != join]
    for branch, region in [each for each in busy if not _ends(draft, each[1], join)]:
        note = f"{draft.steps[branch].name}: a parallel branch that never ends was left out; an anywhere edge may say the same"
        draft.notes.append(note)
        busy.remove((branch, region))
    for (_, region), (after, _) in pairwise(busy):
        for step in [draft.steps[each] for each in sorted(region)]:
            step.ways = [replace(way, to=after) if way.to == join else way for way in step.ways]
            if step.kind == "end" or not step.ways:
                step.kind, step.ways = "agent" if step.prompt else "pass", [Way(after)]
    split.ways = [Way(busy[0][0] if busy else join or branches[0])]


def _ends(draft: Draft, region: set[str], join: str | None) -> bool:
    """Whether a branch leads to the join or to an end."""
    return any(not draft.steps[key].ways or any(way.to == join for way in draft.steps[key].ways) for key in region)


def _join(draft: Draft, branches: list[str]) -> str | None:
    """The first step that all branches come to; `None` if they never meet."""
    order = list(_walk(draft, branches[0]))
    others = [set(_walk(draft, branch)) for branch in branches[1:]]
    return next((key for key in order if all(key in other for other in others)), None)


def _inside(draft: Draft, start: str, stops: set[str]) -> set[str]:
    """The steps from `start` on, without those at and behind `stops`."""
    return set() if start in stops else {key for key in _walk(draft, start, stops) if key not in stops}


def _walk(draft: Draft, start: str, stops: set[str] | None = None) -> dict[str, None]:
    """Keys of the steps from `start` on, nearest first."""
    found, waiting = {start: None}, [start]
    for key in waiting:
        for way in draft.steps[key].ways if key not in (stops or ()) else ():
            if way.to not in found:
                found[way.to] = None
                waiting.append(way.to)
    return found
