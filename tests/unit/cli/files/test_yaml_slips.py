"""Texts that YAML makes shorter or more than the author meant: `subterra lint` warns of them, since their data look sound."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from subterra_cli.main import app

PROCEDURE = """\
apiVersion: subterra.dev/v1alpha1
kind: Procedure
metadata: {{name: small}}
spec:
  systemPrompt: You help.
  start: hello
  openers: {openers}
  nodes:
    - id: hello
      role: agent
      prompt: {prompt}
      examples: {agent}
      next: [{{to: answer}}]
    - id: answer
      role: customer
      examples: {customer}
      next: [{{to: bye}}]
    - {{id: bye, role: agent, prompt: Bye., outcome: success}}
"""


def warnings(
    tmp_path: Path, *, agent: str = "[Hello.]", customer: str = "[Hi.]", prompt: str = "Greet.", openers: str = "[Hi, Good day]"
) -> list[str]:
    file = tmp_path / "small.yaml"
    file.write_text(PROCEDURE.format(agent=agent, customer=customer, prompt=prompt, openers=openers))
    result = CliRunner().invoke(app, ["lint", str(file)])
    return [line.partition("warning: ")[2] for line in result.output.splitlines() if "warning: " in line]


@pytest.mark.parametrize(
    ("agent", "behind"),
    [
        ("[One moment, I am looking., Fine.]", "One moment"),
        ("[Fault desk, hello. What is wrong, and where?]", "Fault desk"),
        ("[Buenos días, ¿qué necesita?]", "Buenos días"),
        ("[“Great, see you soon!”]", "“Great"),
    ],
)
def test_a_sentence_of_the_agent_that_its_commas_cut_is_a_warning(agent: str, behind: str, tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, agent=agent)
    assert found.startswith(f"spec.nodes[0].examples[0]: the comma behind {behind!r} begins another text")
    assert found.endswith("; put each whole text in quotes")


def test_a_sentence_of_the_customer_that_goes_on_behind_a_comma_is_a_warning(tmp_path: Path) -> None:
    assert len(warnings(tmp_path, customer="[Yes, please., No.]")) == 1


@pytest.mark.parametrize(
    "customer", ["[Yes, No problem., OK]", "[yes, no thanks, sure]", '["Yes", "please."]', "[Yes., No., Maybe.]", '["One, two."]']
)
def test_short_answers_of_customers_need_no_end(customer: str, tmp_path: Path) -> None:
    assert warnings(tmp_path, customer=customer) == []


def test_entries_with_dashes_may_have_commas(tmp_path: Path) -> None:
    assert warnings(tmp_path, agent="\n        - One moment, I am looking.\n        - Hello, again") == []


def test_a_text_that_a_comment_cuts_is_a_warning(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, prompt="Ask for the order #, and the name.")
    assert found == "spec.nodes[0].prompt: ends at 'Ask for the order', because # begins a comment; put the whole text in quotes"


@pytest.mark.parametrize("prompt", ["Greet. # a note", "Greet  # a note", '"Order #5"', "Order no.#5", "Greet.\n      # a note"])
def test_a_comment_behind_a_whole_text_is_none(prompt: str, tmp_path: Path) -> None:
    assert warnings(tmp_path, prompt=prompt) == []


def test_curly_quotes_are_said_and_so_a_warning(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, agent="[“Hello.”]")
    assert found.startswith("spec.nodes[0].examples[0]: has curly quotes around it, which are said: '“Hello.”'")
