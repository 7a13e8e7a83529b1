"""The table and the figure of depths, from planted figures."""

from dataclasses import replace

from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.model_depth import MODEL_DEPTH
from memsinks.experiments.results import Row, summarise
from memsinks.experiments.sizes import STORIES

PLANTED = [
    Row(arm=arm, measure=measure, mode="off", x=float(layers), value=value)
    for arm, layers, values in (
        ("sinks", 8, (3.0, 2.0, 0.01, 0.9)),
        ("sinks", 4, (3.1, 2.1, 0.02, 0.8)),
        ("sinks_early_rate_10", 4, (3.2, 2.2, -0.03, 0.95)),
    )
    for measure, value in zip(("repeated", "validation", "validation_cost", "forgetting_steps"), values, strict=True)
]
OUTCOME = Outcome({0: PLANTED}, summarise([PLANTED]))


def test_models_differ_in_depth_alone(tmp_path):
    setting = STORIES["mini"]
    labs = MODEL_DEPTH.prepare(setting, 0, tmp_path, progress=False).labs
    assert {layers: lab.setting for layers, lab in labs.items()} == {n: replace(setting, layers=n) for n in (2, 4, 8)}


def test_each_depth_has_its_own_row_in_order():
    (table,) = MODEL_DEPTH.tables(OUTCOME)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert {label: (c["V over standard"], c["forgetting, equal steps"]) for label, c in cells.items()} == {
        "Sinks, all layers, learning rate x5: off, 4 layers": ("2.0 %", "0.800"),
        "Sinks, all layers, learning rate x5: off, 8 layers": ("1.0 %", "0.900"),
        "Sinks, early half of the layers, learning rate x10: off, 4 layers": ("-3.0 %", "0.950"),
    }


def test_the_figure_draws_shares_against_depth():
    forgotten, cost = MODEL_DEPTH.figures(OUTCOME)["depths"]
    assert [(list(s.x), list(s.y)) for s in forgotten.series] == [([4.0, 8.0], [0.8, 0.9]), ([4.0], [0.95])]
    assert [[round(y, 9) for y in s.y] for s in cost.series] == [[2.0, 1.0], [-3.0]]
