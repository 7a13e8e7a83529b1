"""The table of model sizes, from planted losses."""

from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.model_size import MODEL_SIZE
from memsinks.experiments.results import Row, summarise


def test_every_method_is_compared_on_the_stories_it_was_measured_on():
    """Post-hoc methods report half of the held-out stories, which may be harder than all of them."""
    rows = [
        Row(arm=arm, measure=measure, mode=mode, x=64.0, value=value)
        for arm, mode, measure, value in (
            ("standard", "plain", "validation", 3.0),
            ("sinks", "off", "validation", 3.3),
            ("sinks", "off", "relearned", 2.5),
            ("npo", "plain", "validation", 3.9),
            ("npo", "plain", "degradation", 0.1),
        )
    ]
    (table,) = MODEL_SIZE.tables(Outcome({0: rows}, summarise([rows])))
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert {label: found["over standard"] for label, found in cells.items()} == {
        "Standard training, hidden 64": "0.000",
        "Sinks, all layers, x5: off, hidden 64": "0.300",
        "NPO, hidden 64": "0.100",
    }
    assert cells["Sinks, all layers, x5: off, hidden 64"]["relearned"] == "2.500"
