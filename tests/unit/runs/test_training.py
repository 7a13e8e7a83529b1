"""What a run file asks of training, seen at the model while it trains."""

import pytest
import torch
from transformers import TrainerCallback

from memsinks.errors import TrainingError
from memsinks.runs.build import build_model, plan_run
from memsinks.sinks.layer import is_bound
from memsinks.training.batches import RankBatches
from memsinks.training.run import train, training_rows
from memsinks.training.stopping import MOST_SKIPPED

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
    # Of dynamo, which looks at tensors that are no leaves.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


class Watch(TrainerCallback):
    """Keeps what a look at the model says before training starts."""

    def __init__(self, look):
        self.look, self.seen = look, None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.seen = self.look(model)


def test_rows_of_a_step_share_micro_batches_by_length(configured, tmp_path):
    config = configured(
        stream__packed=False, schedule__batch_size=12, schedule__micro_batch_size=3, exposures__govern="all"
    )
    blueprint = plan_run(config)
    result = train(build_model(blueprint), blueprint.text, config, tmp_path, callbacks=[])
    rows = training_rows(blueprint.text, config)
    lengths = [len(rows[i]["input_ids"]) for i in range(len(rows))]
    assert result.trainer.row_lengths.tolist() == lengths
    dealt = list(RankBatches(len(rows), batch_size=12, micro_batch_size=3, lengths=result.trainer.row_lengths))
    assert list(result.trainer.get_train_dataloader().batch_sampler) == dealt


@pytest.mark.parametrize("wanted", [False, True])
def test_layers_are_compiled_where_the_run_file_says_so(configured, tmp_path, wanted, monkeypatch):
    # Dynamo and no code generation.
    monkeypatch.setattr("memsinks.training.compilation.BACKEND", "eager")
    config = configured(precision__compile=wanted, exposures__govern="all", sinks__layers=[1], schedule__steps=1)
    blueprint = plan_run(config)
    model = build_model(blueprint)
    watch = Watch(lambda _: ["base_forward" if is_bound(m) else "forward" for m in model.model.layers
                             if vars(m).keys() & {"base_forward", "forward"}])  # fmt: skip
    train(model, blueprint.text, config, tmp_path, callbacks=[watch])
    assert watch.seen == (["forward", "base_forward"] if wanted else [])
    assert not any(vars(layer).keys() & {"base_forward", "forward"} for layer in model.model.layers)


def test_a_model_that_cannot_learn_is_an_error(configured, tmp_path):
    config = configured(exposures__govern="all", schedule__batch_size=2, schedule__steps=2 * MOST_SKIPPED)
    blueprint = plan_run(config)
    model = build_model(blueprint)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=f"{MOST_SKIPPED} steps in a row"):
        train(model, blueprint.text, config, tmp_path)
