"""Everybody can read the report: axe-core finds no serious fault, and a phone need not scroll sideways."""

from pathlib import Path

import pytest
from tests.browser.audit import AXE, audit, chromium

from subterra_testkit.runs.reports import page, paired

pytestmark = pytest.mark.skipif(
    chromium() is None or not AXE.exists(), reason="make test-browser brings axe-core; Chromium is needed"
)


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)], ids=["a phone in the dark", "a desktop by day"])
def test_a_report_of_five_agents_has_no_serious_fault(tmp_path: Path, width: int, dark: bool) -> None:
    found = audit(page(paired(40)), tmp_path, width, dark=dark)
    assert found.serious == ()
    assert found.dark == dark
    assert found.width <= width
    assert found.passes > 30


def test_a_fault_in_a_report_would_be_found(tmp_path: Path) -> None:
    broken = page(paired(40)).replace("--soft: #59626e", "--soft: #c9ccd1").replace('<html lang="en">', "<html>")
    found = audit(broken, tmp_path, 1280)
    assert {"color-contrast", "html-has-lang"} <= {each.rule for each in found.serious}
