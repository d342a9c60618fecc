"""The guide to the constructs quotes the examples as they are, and shows their pictures."""

import re
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_testkit.repository import ROOT

PAGE = (ROOT / "docs/guides/constructs.md").read_text()
EXCERPTS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.S | re.M)


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=[excerpt.split("\n")[0].strip() for excerpt in EXCERPTS])
def test_every_excerpt_is_in_an_example(excerpt: str) -> None:
    examples = [file.read_text() for file in (ROOT / "examples").glob("*/*.yaml")]
    assert any(excerpt in text for text in examples), dedent(excerpt)


@pytest.mark.parametrize(
    ("picture", "example"),
    [("questions", "library"), ("constructs/tools", "orders"), ("constructs/anywhere", "delivery"), ("constructs/calls", "bank")],
)
def test_every_picture_is_what_subterra_graph_draws(picture: str, example: str) -> None:
    drawn = CliRunner().invoke(app, ["graph", str(ROOT / f"examples/{example}/procedure.yaml"), "-o", "svg"]).stdout
    assert f"{picture}.svg" in PAGE
    assert drawn == (ROOT / f"docs/{picture}.svg").read_text()
