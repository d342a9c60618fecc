"""What writing a dataset will cost, before it begins: every request is built for a stand-in of every conversation. Pure."""

from collections.abc import Iterator, Mapping

from subterra_api.job_contract.messages import Generation
from subterra_core.pricing import TokenPrice
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.stand_in import stand_in
from subterra_jobs.generate.plan.plan import plan
from subterra_jobs.generate.write.prompts import Prompts
from subterra_jobs.llm.cost_estimate import NUMBER, Asked, Assumed, Forecast, length, model_of, part

TEACHER, READER = "teacher", "blind reader"


def forecast(graph: Graph, asked: Generation, prices: Mapping[str, TokenPrice]) -> Forecast:
    """Teacher and blind reader, when nothing was written before. Raises UnknownModelError, or InvalidInputError without a plan."""
    if asked.teacher.name == "scripted":
        return Forecast()
    slots, model, prompts = plan(graph.spec, asked), model_of(asked.teacher, "generation.teacher", prices), Prompts(graph)

    def written(assumed: Assumed) -> Iterator[Asked]:
        for slot in slots:
            said = stand_in(graph, slot.path, slot.values, assumed.turn_length)
            for place, turn in enumerate(said):
                yield prompts.of(slot, place, said[:place]), length(turn.text)

    def read(assumed: Assumed) -> Iterator[Asked]:
        for slot in slots:
            said = stand_in(graph, slot.path, slot.values, assumed.turn_length)
            for decision in slot.audited:
                yield prompts.reading(slot, decision, said[: decision.position + 1]), NUMBER

    return Forecast((part(TEACHER, model, written), part(READER, model, read)))
