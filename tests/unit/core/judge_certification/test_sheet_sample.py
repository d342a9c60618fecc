"""A sheet has more failures than chance would draw, and says for how many conversations each stands."""

from subterra_core.judge_certification.sheet_sample import draw_sheet

FLAGGED, OTHERS = range(50), range(100, 550)


def test_a_third_are_failures_and_weights_restore_the_evaluation() -> None:
    sheet = draw_sheet(FLAGGED, OTHERS, 90, 1)
    flagged = [item for item, kind in sheet.drawn if kind]
    assert (len(flagged), len(sheet.drawn)) == (30, 90)
    assert len({item for item, _ in sheet.drawn}) == 90
    assert (30 * sheet.weight(True), 60 * sheet.weight(False)) == (50, 450)


def test_too_few_of_one_kind_are_filled_up_with_the_other() -> None:
    assert sum(kind for _, kind in draw_sheet(FLAGGED, OTHERS, 300, 1).drawn) == 50
    assert len(draw_sheet(FLAGGED, OTHERS, 300, 1).drawn) == 300
    assert sum(kind for _, kind in draw_sheet(FLAGGED, range(100, 110), 40, 1).drawn) == 30
    assert len(draw_sheet(FLAGGED, OTHERS, 1000, 1).drawn) == 500


def test_the_seed_alone_decides_and_the_order_says_nothing() -> None:
    assert draw_sheet(FLAGGED, OTHERS, 90, 1) == draw_sheet(FLAGGED, OTHERS, 90, 1) != draw_sheet(FLAGGED, OTHERS, 90, 2)
    kinds = [kind for _, kind in draw_sheet(FLAGGED, OTHERS, 90, 1).drawn]
    assert kinds != sorted(kinds)
    assert 8 <= sum(kinds[:45]) <= 22
