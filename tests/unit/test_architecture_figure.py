"""docs/architecture.svg: it is what its generator writes, and every color has a counterpart in the dark."""

import runpy
from xml.etree import ElementTree

from subterra_testkit.repository import ROOT

GENERATOR = runpy.run_path(str(ROOT / "docs/contributing/architecture_figure.py"))


def test_the_checked_in_figure_is_what_the_generator_writes() -> None:
    assert (ROOT / "docs/architecture.svg").read_text(encoding="utf-8") == GENERATOR["figure"](), "run make figure"


def test_the_figure_is_well_formed() -> None:
    assert ElementTree.fromstring(GENERATOR["figure"]()).tag == "{http://www.w3.org/2000/svg}svg"


def test_light_and_dark_have_the_same_colors() -> None:
    assert GENERATOR["LIGHT"].keys() == GENERATOR["DARK"].keys()
