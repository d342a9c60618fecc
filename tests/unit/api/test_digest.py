"""What starts a new run, and what never does."""

import yaml

from subterra_api.digest import procedure_digest, run_digest, run_name, significant_fields
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_testkit.repository import ROOT

TRAVEL = yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"]
RUN = RunIdentity(name="travel-1", namespace="demo", uid="1")


def inputs(**more: object) -> CompileInputs:
    return CompileInputs.model_validate({"procedureRef": {"name": "travel"}, **more})


def test_the_order_of_nodes_does_not_matter() -> None:
    turned = TRAVEL | {"nodes": list(reversed(TRAVEL["nodes"]))}
    assert procedure_digest(ProcedureSpec.model_validate(TRAVEL)) == procedure_digest(ProcedureSpec.model_validate(turned))


def test_writing_a_default_out_does_not_matter() -> None:
    nodes = [TRAVEL["nodes"][0] | {"maxVisits": 2}, *TRAVEL["nodes"][1:]]
    assert procedure_digest(ProcedureSpec.model_validate(TRAVEL | {"nodes": nodes})) == procedure_digest(
        ProcedureSpec.model_validate(TRAVEL)
    )
    assert run_digest("sha256:a", inputs(baseModel={"uri": "scratch"})) == run_digest("sha256:a", inputs())


def test_both_spellings_of_the_customers_role_are_one_procedure_and_only_user_is_seen() -> None:
    spelt = [node | {"role": "customer"} if node["role"] == "user" else node for node in TRAVEL["nodes"]]
    spec, other = ProcedureSpec.model_validate(TRAVEL | {"nodes": spelt}), ProcedureSpec.model_validate(TRAVEL)
    assert spelt != TRAVEL["nodes"]
    assert spec == other
    assert spec.dump() == other.dump()
    assert procedure_digest(spec) == procedure_digest(other)
    assert {node.role for node in spec.nodes} == {"agent", "user"}
    assert ProcedureSpec.model_validate(spec.dump()) == other


def test_a_changed_wording_is_another_procedure() -> None:
    nodes = [TRAVEL["nodes"][0] | {"prompt": "Greet."}, *TRAVEL["nodes"][1:]]
    assert procedure_digest(ProcedureSpec.model_validate(TRAVEL | {"nodes": nodes})) != procedure_digest(
        ProcedureSpec.model_validate(TRAVEL)
    )


def test_every_setting_that_changes_the_result_changes_the_run() -> None:
    variants = [
        inputs(),
        inputs(baseModel={"uri": "hf://a/b"}),
        inputs(generation={"conversations": 50}),
        inputs(training={"seed": 1}),
        inputs(evaluation={"scenarios": 50}),
    ]
    assert len({run_digest("sha256:a", variant) for variant in variants}) == len(variants)


def test_words_for_what_the_flowchart_lacks_change_a_procedure_and_their_absence_changes_none() -> None:
    plain = {key: value for key, value in TRAVEL.items() if key != "otherwise"}
    spec = ProcedureSpec.model_validate(plain)
    unset = [ProcedureSpec.model_validate(plain | {"otherwise": otherwise}) for otherwise in ({}, {"offTopic": []}, None)]
    assert "otherwise" not in significant_fields(spec)
    assert {procedure_digest(each) for each in unset} == {procedure_digest(spec)}
    written = ProcedureSpec.model_validate(plain | {"otherwise": {"offTopic": ["I only book trips."]}})
    assert procedure_digest(written) != procedure_digest(spec)


def test_run_digests_are_golden() -> None:
    """A change here starts a new run for every agent in the world: increment HASH_VERSION deliberately, or avoid it."""
    nodes = [
        {"id": "a", "role": "agent", "prompt": "Hi", "next": [{"to": "b"}]},
        {"id": "b", "role": "agent", "prompt": "Bye", "outcome": "success"},
    ]
    fixed = {"systemPrompt": "Help.", "start": "a", "nodes": nodes}
    procedure = procedure_digest(ProcedureSpec.model_validate(fixed))
    assert run_name("travel", run_digest(procedure, inputs())) == "travel-6f9cb3dd"


def test_a_changed_evaluation_keeps_dataset_and_model() -> None:
    spec = ProcedureSpec.model_validate(TRAVEL)
    one, two = (resolve(inputs(evaluation={"scenarios": n}), spec, "sha256:a", RUN, store="file:///store").keys for n in (50, 60))
    assert (one.dataset, one.model) == (two.dataset, two.model)
    assert one.report != two.report


def test_two_spellings_of_the_same_settings_share_their_artifacts() -> None:
    spec = ProcedureSpec.model_validate(TRAVEL)
    plain, spelt = (
        resolve(given, spec, "sha256:a", RUN, store="file:///store").keys
        for given in (inputs(), inputs(generation={"teacher": {"name": "scripted"}}, evaluation={"scenarios": 300}))
    )
    assert plain == spelt


def test_one_trial_and_its_absence_are_the_same_run_and_more_are_another() -> None:
    spec = ProcedureSpec.model_validate(TRAVEL)
    absent, one, four = (inputs(evaluation=trials) for trials in ({}, {"trials": 1}, {"trials": 4}))
    assert run_digest("sha256:a", absent) == run_digest("sha256:a", one) != run_digest("sha256:a", four)
    keys = [resolve(given, spec, "sha256:a", RUN, store="file:///store").keys for given in (absent, one, four)]
    assert keys[0] == keys[1]
    assert keys[0].model == keys[2].model
    assert keys[0].report != keys[2].report
