"""The facts that a client sends to a served agent, as a table and as the lines of a plan."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from subterra_cli.chat.context_facts import allowed_values
from subterra_core.drawing.graph_summary import clean
from subterra_core.procedure.context_contract import ContextFact

COLUMNS = ("FACT", "MAY BE", "FIRST READ BY", "FOR MESSAGE", "ALSO READ BY")
NOTHING = "the agent reads no facts from the system message: no variable has visibility: context"
_NOBODY = "no node by name"


def table(facts: Sequence[ContextFact]) -> Table:
    """A row for each fact, in the order of the lines."""
    result = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for title in COLUMNS:
        result.add_column(title, overflow="fold")
    for fact in facts:
        first = fact.first
        others = ", ".join(reader.node for reader in fact.readers[1:])
        when = (first.node, str(first.message)) if first else (_NOBODY, "")
        result.add_row(fact.variable.name, Text(clean(allowed_values(fact.variable))), *when, others)
    return result


def lines(facts: Sequence[ContextFact]) -> Iterator[str]:
    """The text below the table."""
    if not facts:
        yield NOTHING
        return
    example = facts[0].variable.name
    yield f"each fact is a line of a system message, such as `{example}: …`, in this order; send it from FOR MESSAGE on, or earlier"


def plan_lines(facts: Sequence[ContextFact]) -> Iterator[str]:
    """A line for each fact, for the plan of a compile."""
    for fact in facts:
        first = fact.first
        where = f"node {first.node}, for the agent's message {first.message} at the earliest" if first else _NOBODY
        yield f"fact {fact.variable.name}: sent by the client, {clean(allowed_values(fact.variable))}; first read by {where}"
