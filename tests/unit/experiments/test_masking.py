from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.masking import MASKING
from memsinks.experiments.reproduce import report
from memsinks.experiments.results import Row, summarise, write_seed


def validation(arm, value, mode="plain"):
    return Row(arm=arm, measure="validation", value=value, mode=mode)


def test_what_masking_costs_is_told_of_the_arms_that_results_have():
    rows = [validation("standard", 2.5), validation("masking_mlp", 3.1, "own"), validation("masking_mlp", 11.0, "off")]
    *_, costs = MASKING.tables(Outcome({0: rows}, summarise([rows])))
    assert costs.rows == [["Gradient masking, MLP weights", "0.600", "7.900"]]


def test_a_panel_of_an_arm_that_results_lack_is_left_out(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("memsinks.experiments.reproduce.write_panels", lambda panels, file: drawn.append(panels))
    curves = [Row(arm="masking_mlp", measure="validation_curve", mode="own", x=x, value=3.0) for x in (0.0, 1.0)]
    write_seed(tmp_path / "seed-0.json", {"seed": 0}, curves)
    report(MASKING, tmp_path)
    assert [[panel.title for panel in panels] for panels in drawn] == [["Gradient masking, MLP weights: validation"]]
    write_seed(tmp_path / "seed-0.json", {"seed": 0}, [validation("standard", 2.5)])
    report(MASKING, tmp_path)
    assert len(drawn) == 1
