"""A sample of conversations, and the prompts behind it, as text and as JSON data."""

from collections.abc import Iterator, Sequence
from typing import Any

from subterra_cli.output.render import counted
from subterra_core.drawing.graph_summary import clean
from subterra_core.pricing import format_usd
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import CHAT_ROLE
from subterra_jobs.generate.dataset import chat_row, label_row
from subterra_jobs.generate.sample.example_prompts import ExamplePrompt
from subterra_jobs.generate.sample.sample_run import Sample, SampledConversation
from subterra_jobs.generate.write.writer import messages
from subterra_jobs.generate.written_conversation import Conversation

_SPEAKERS = {"user": "Customer:", "agent": "Agent:", "assistant": "Agent:"}
Turn = tuple[str, list[str], str]
"""Speaker, nodes, words."""


def conversation_data(graph: Graph, sampled: SampledConversation) -> dict[str, Any]:
    """The conversation as JSON data, with `messages` and labels as in the dataset if it was written to its end."""
    conversation = sampled.conversation
    spec = conversation.spec
    label = label_row(conversation, graph) if conversation.written else {"id": spec.id, "path": spec.path, "values": spec.values}
    words = [_count(text) for _, _, text in _turns(graph, conversation)]
    return label | {
        "messages": _messages(graph, conversation),
        "dropped": conversation.drop_reason,
        "refused": [
            {"node": each.node, "attempt": each.attempt, "problem": each.problem, "text": each.text, "frameLeak": each.frame_leak}
            for each in sampled.refused
        ],
        "decisions": [{"hub": hub, "taken": taken, "readAs": guess or None} for hub, taken, guess in _decisions(conversation)],
        "words": words,
    }


def totals_data(graph: Graph, sample: Sample) -> dict[str, Any]:
    """Counts and cost of the sample as JSON data."""
    turns = [turn for sampled in sample.conversations for turn in _turns(graph, sampled.conversation)]
    return {
        "conversations": len(sample.conversations),
        "dropped": sum(each.conversation.drop_reason is not None for each in sample.conversations),
        "turns": len(turns),
        "words": sum(_count(text) for _, _, text in turns),
        "refused": sum(len(each.refused) for each in sample.conversations),
        "frameLeaks": sum(refused.frame_leak for each in sample.conversations for refused in each.refused),
        "calls": sample.calls,
        "tokens": sample.tokens,
        "usd": format_usd(sample.usd),
    }


def sample_lines(graph: Graph, sample: Sample, *, scripted: bool) -> Iterator[str]:
    """Each conversation with path, variables, turns and what the checks found; `scripted`: by the scripted teacher."""
    total = len(sample.conversations)
    for number, sampled in enumerate(sample.conversations, 1):
        yield from _conversation_lines(graph, sampled, f"{number} of {total}", scripted=scripted)
        yield ""


def totals_line(totals: dict[str, Any], *, paid: bool) -> str:
    """Such as ``5 conversations, 58 turns, 702 words (12.1 a turn); 64 calls, 50,000 tokens, $0.23``."""
    dropped = f" ({totals['dropped']} dropped)" if totals["dropped"] else ""
    counts = f"{counted(totals['conversations'], 'conversation')}{dropped}, {counted(totals['turns'], 'turn')}, "
    counts += counted(totals["words"], "word")
    mean = f" ({totals['words'] / totals['turns']:.1f} a turn)" if totals["turns"] else ""
    refused = f"; {counted(totals['refused'], 'turn')} refused by the checks" if totals["refused"] else ""
    leaks = f", {counted(totals['frameLeaks'], 'frame leak')} among them" if totals["frameLeaks"] else ""
    cost = f"{counted(totals['calls'], 'call')}, {totals['tokens']:,} tokens, ${totals['usd']}" if paid else "no calls, $0"
    return f"{counts}{mean}{refused}{leaks}; {cost}"


def prompt_lines(prompts: Sequence[ExamplePrompt]) -> Iterator[str]:
    """Each prompt as it is sent, under its kind."""
    for prompt in prompts:
        place = f"node {prompt.node} of conversation" if prompt.node else "scenario"
        yield f"=== {prompt.kind}: {place} {prompt.conversation}"
        yield "--- system"
        yield from clean_lines(prompt.request.system)
        for message in prompt.request.messages:
            yield f"--- {message['role']}"
            yield from clean_lines(message["content"])
        yield ""


def prompt_data(prompt: ExamplePrompt) -> dict[str, Any]:
    """A prompt as JSON data."""
    request = prompt.request
    sent = {"system": request.system, "messages": [dict(message) for message in request.messages]}
    return {"kind": prompt.kind, "conversation": prompt.conversation, "node": prompt.node, **sent, "maxTokens": request.max_tokens}


def clean_lines(text: str) -> Iterator[str]:
    """The lines of a text without characters that a terminal would interpret."""
    return (clean(line) for line in text.splitlines())


def heading(sampled: SampledConversation, number: str, *, scripted: bool) -> str:
    """Who the customer is and what is unusual, such as ``1 of 2 · s42-000000 · training · brief · in a few words``.

    The `scripted` teacher writes no personas, styles and twists, so they are left out for it.
    """
    conversation = sampled.conversation
    spec, customer = conversation.spec, conversation.spec.customer
    difficulty = customer.challenge or customer.twist
    unusual = " of ".join(filter(None, (difficulty.kind, difficulty.about))) if difficulty else ""
    manner = () if scripted else (customer.persona, customer.style, unusual)
    detour = f"detour: {conversation.detour.kind}" if conversation.detour else ""
    asked = f"asks: {', '.join(each.name for each in spec.asked)}" if spec.asked else ""
    split = "held out" if spec.held_out else "training"
    return " · ".join(filter(None, (number, spec.id, split, *manner, detour, asked)))


def _conversation_lines(graph: Graph, sampled: SampledConversation, number: str, *, scripted: bool) -> Iterator[str]:
    conversation = sampled.conversation
    spec = conversation.spec
    yield heading(sampled, number, scripted=scripted)
    yield "  path: " + " → ".join(spec.path)
    if spec.values:
        yield "  variables: " + ", ".join(f"{name} = {clean(value)}" for name, value in spec.values.items())
    turns = _turns(graph, conversation)
    width = max((len(", ".join(nodes)) for _, nodes, _ in turns), default=0)
    for role, nodes, text in turns:
        yield f"  {', '.join(nodes):{width}}  {_SPEAKERS[role]:9} {clean(' '.join(text.split()))}"
    yield from check_lines(sampled)
    counts = [_count(text) for _, _, text in turns]
    if counts:
        mean = f"{sum(counts) / len(counts):.1f} a turn"
        yield f"  {counted(len(counts), 'turn')}, {counted(sum(counts), 'word')}, {mean}: {', '.join(map(str, counts))}"


def check_lines(sampled: SampledConversation) -> Iterator[str]:
    """What the checks found in a conversation."""
    conversation = sampled.conversation
    for refused in sampled.refused:
        leak = "frame leak, " if refused.frame_leak else ""
        words = f': "{clean(refused.text)}"' if refused.text else ""
        yield f"  refused: node {refused.node}, attempt {refused.attempt} ({leak}{clean(refused.problem)}){words}"
    for hub, taken, guess in _decisions(conversation):
        if guess != taken:
            yield f"  misread: the blind reader reads {guess or 'no branch'} at {hub}, where {taken} was taken"
    if conversation.drop_reason is not None:
        yield f"  dropped: {clean(conversation.drop_reason)}"
    elif not sampled.refused:
        yield "  checks: nothing found"


def _decisions(conversation: Conversation) -> list[tuple[str, str, str]]:
    """Hub, branch taken and branch read of each audited decision that was read."""
    path = conversation.spec.path
    read = zip(conversation.spec.audited, conversation.guesses, strict=False)
    return [(path[decision.position], path[decision.position + 1], guess) for decision, guess in read]


def _messages(graph: Graph, conversation: Conversation) -> list[dict[str, Any]]:
    """As in the dataset; of a conversation that was dropped on its way, what was said so far."""
    if conversation.written:
        return list(chat_row(graph, conversation)["messages"])
    return [{"role": CHAT_ROLE[role], "content": text} for role, _, text in _turns(graph, conversation)]


def _turns(graph: Graph, conversation: Conversation) -> list[Turn]:
    if conversation.written:
        said, nodes = messages(graph, conversation)[1:], label_row(conversation)["turns"]
        return [(message["role"], at, message["content"]) for message, at in zip(said, nodes, strict=True)]
    opener = conversation.spec.customer.opener
    begun: list[Turn] = [] if opener is None else [("user", [], opener)]
    return begun + [(utterance.role, [utterance.node], utterance.text) for utterance in conversation.utterances]


def _count(text: str) -> int:
    return len(text.split())
