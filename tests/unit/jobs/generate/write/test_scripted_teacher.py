"""The scripted teacher lets customers say more than the author's examples; agents, the pilot and paid teachers are as before."""

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.scripted import agent_templates, example_templates
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher, with_typed_openers
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.runs.generation_inputs import travel

GRAPH = Graph(travel())
PLAN = plan_conversations(travel(), Generation(teacher=Provider(), conversations=200, seeds=(42,), held_out_percent=10))


async def written(teacher: ScriptedTeacher) -> list[Conversation]:
    writer = Writer(GRAPH, teacher)
    return [await writer.finish(Conversation(planned)) for planned in PLAN]


def share_of_examples(conversations: list[Conversation]) -> float:
    """Share of the customers' turns that are an example of the author."""
    own = [
        said.text in {render(text, each.spec.values) for text in example_templates(GRAPH, said.node, said.taken)}
        for each in conversations
        for said in each.utterances
        if said.role == "user"
    ]
    return sum(own) / len(own)


async def test_customers_say_more_than_the_examples_and_agents_do_not() -> None:
    found = await written(ScriptedTeacher(GRAPH))
    assert 0.5 < share_of_examples([each for each in found if not each.spec.audited]) < 0.7
    for each in found:
        for said in each.utterances:
            if said.role == "agent":
                assert said.text in {render(text, each.spec.values) for text in agent_templates(GRAPH.nodes[said.node])}


async def test_the_pilot_keeps_to_the_examples_so_that_the_reader_audits_the_authors_words() -> None:
    pilot = [each for each in await written(ScriptedTeacher(GRAPH)) if each.spec.audited]
    assert len(pilot) == 50
    assert share_of_examples(pilot) == 1


async def test_a_conversation_is_the_same_whatever_was_written_before_it() -> None:
    first = await written(ScriptedTeacher(GRAPH))
    writer = Writer(GRAPH, ScriptedTeacher(GRAPH))
    again = [await writer.finish(Conversation(each.spec)) for each in reversed(first)]
    assert again[::-1] == first


def test_some_openers_are_typed_in_a_hurry_and_nothing_else_of_the_plan_changes() -> None:
    typed = with_typed_openers(GRAPH, PLAN)
    opened = [(old, new) for old, new in zip(PLAN, typed, strict=True) if old.customer.opener is not None and not old.audited]
    changed = [(old, new) for old, new in opened if old != new]
    assert 0.1 < len(changed) / len(opened) < 0.4
    assert all((old.id, old.path, old.values, old.held_out) == (new.id, new.path, new.values, new.held_out) for old, new in changed)
    assert [old for old, new in zip(PLAN, typed, strict=True) if old.audited and old != new] == []
