"""Lets robustness customers talk to the candidate and examines how it handled them. They cost nothing but the candidate's time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.scores import RobustnessKind
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import asks_questions
from subterra_jobs.dialogue.detours import draw_detour, otherwise_kind
from subterra_jobs.dialogue.phrasing.customer_phrasing import CustomerPhrasing
from subterra_jobs.dialogue.phrasing.phrasebook import load_phrasebook
from subterra_jobs.dialogue.sampling import real_values
from subterra_jobs.dialogue.scripted import agent_templates
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, SentenceEncoder
from subterra_jobs.evaluate.analysis.robustness_summary import Robustness
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.free_words.answers import AnswerReader
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import make_labeller
from subterra_jobs.evaluate.judge.handling import HandlingExaminer, OtherwiseRecognizer
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.scenarios.robustness import CustomerSources, RobustnessBlock
from subterra_jobs.evaluate.scheduling import Schedule
from subterra_jobs.evaluate.simulate.agents import Arm
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.simulation import simulate_all
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUserFactory

MIN_RECOGNIZED = 0.8
"""Share of the candidate's replies that must be recognized before steps are checked in a run that models judge."""
ENDED_EARLY = "the evaluation ended early"
SPEAKS_FREELY = "the agent speaks freely, and only replies in the procedure's own words can be checked step by step"
_WITHOUT_STEPS: tuple[RobustnessKind, ...] = ("unknownValues",)
"""Kinds that can be checked although the agent's steps are not recognized."""


def customer_sources(graph: Graph) -> CustomerSources:
    """Where robustness customers get their words and values: decided here for all kinds."""
    corrections = load_phrasebook().values.corrected
    return CustomerSources(CustomerPhrasing(graph, held_out=True), corrections, draw_detour, real_values)


def otherwise_recognizer() -> OtherwiseRecognizer:
    """Recognizes the author's words for what the flowchart does not have."""
    return otherwise_kind


def answer_reader(graph: Graph, models: Path) -> AnswerReader:
    """A reader of answers to questions in between; by similarity too, if the encoder is in the folder `models`."""
    folder = models / MODEL
    encoder = SentenceEncoder(folder) if asks_questions(graph.spec) and folder.is_dir() else None  # loaded when it is needed
    return AnswerReader(graph.spec, encoder)


def reply_reader(graph: Graph, results: Sequence[Result], models: Path) -> tuple[ReplyReader, Labeller | None]:
    """A reader by rules if they recognize the candidate's replies in `results`, else one by a labeller of free words."""
    by_rules = ReplyReader(graph)
    exemplified = all(agent_templates(node) for node in graph.spec.nodes if node.role == "agent")
    if not exemplified or _recognizes(by_rules, results):
        return by_rules, None
    labeller = make_labeller(graph, models)
    return ReplyReader(graph, labeller), labeller


def _recognizes(reader: ReplyReader, results: Sequence[Result]) -> bool:
    return reader.recognized_share([(result.scenario, result.conversation) for result in results]) >= MIN_RECOGNIZED


def playable(block: RobustnessBlock, settings: Evaluation, reader: ReplyReader, results: Sequence[Result]) -> RobustnessBlock:
    """The customers that are worth simulating after the conforming ones, `results` of the candidate."""
    if len(results) < settings.scenarios:
        return RobustnessBlock((), dict.fromkeys(block.kinds, ENDED_EARLY))
    by_rules = settings.judge.name == "scripted"
    if by_rules or _recognizes(reader, results):
        return block
    scenarios = tuple(each for each in block.scenarios if each.kind in _WITHOUT_STEPS)
    unchecked = dict.fromkeys([kind for kind in block.kinds if kind not in _WITHOUT_STEPS], SPEAKS_FREELY)
    return RobustnessBlock(scenarios, {**unchecked, **block.untested})


async def play_robustness(
    block: RobustnessBlock,
    candidate: Arm,
    examiner: HandlingExaminer,
    schedule: Schedule,
    caches: Mapping[str, ConversationCache],
) -> Robustness:
    """The candidate's conversations with these customers, examined."""
    if not block.scenarios:
        return Robustness((), block.untested)
    turns = max(len(scenario.lines) for scenario in block.scenarios) + 1
    conversations = await simulate_all(
        [candidate], block.scenarios, ScriptedUserFactory(), schedule, max_agent_turns=turns, caches=caches
    )
    pairs = zip(block.scenarios, conversations[candidate.name], strict=True)
    return Robustness(tuple(examiner.examine(*pair) for pair in pairs), block.untested)


def with_assertions(results: Sequence[Result], reader: ReplyReader) -> list[Result]:
    """The candidate's results with everything that it asserted."""
    return [replace(result, assertions=reader.assertions(result.scenario, result.conversation)) for result in results]
