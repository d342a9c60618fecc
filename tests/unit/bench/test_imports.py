"""The measurement of imports finds each kind of source in a folder, and says why one is refused."""

from pathlib import Path

from bench.procedures.imports import rows_of, table

_BPMN = """<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL"><process id="p" name="Shop">
<task id="a" name="A"/><task id="b" name="B"/><task id="c" name="C"/>
<sequenceFlow id="x" sourceRef="a" targetRef="b"/><sequenceFlow id="y" sourceRef="b" targetRef="c"/></process></definitions>"""


def test_each_source_has_a_row_and_a_refused_one_its_reason(tmp_path: Path) -> None:
    for name in ("drawn", "talks", "wrong"):
        (tmp_path / name).mkdir()
    (tmp_path / "drawn/shop.bpmn").write_text(_BPMN)
    (tmp_path / "talks/flows.yml").write_text("flows:\n  a: {description: Say bye, steps: [{action: utter_bye}]}\n")
    rows = {row.source: row for row in rows_of(tmp_path)}
    shop = rows["drawn/shop.bpmn Shop"]
    assert (shop.format, shop.nodes, shop.complete, shop.gaps, shop.errors) == ("bpmn", 3, 3, 1, 0)
    assert (rows["talks"].nodes, rows["talks"].complete) == (2, 1)
    assert rows["wrong"].refused.endswith("a file of Rasa CALM has them below `flows:`")
    assert "| drawn/shop.bpmn Shop | bpmn | 3 | 3 (100%) | 1 | 0 | 0 |" in table(rows.values())
