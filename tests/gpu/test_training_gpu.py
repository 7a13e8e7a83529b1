"""Sinks and their training on CUDA: the kernel against its oracle, compiled layers against eager ones, whole arms."""

from dataclasses import replace

import pytest
import torch
from families import VOCABULARY, sink_model

from memsinks import SinkAdamW
from memsinks.experiments.lab import PLAIN
from memsinks.experiments.sizes import SMOKE
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import MASKING_ALL, SINKS, STANDARD
from memsinks.kernels import SinkWeights, dense, gathered
from memsinks.training.compilation import compiled_layers

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    # Of inductor.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]
DEVICE = "cuda"
POOL, HIDDEN, ACTIVE = 64, 32, 16


@pytest.mark.parametrize("counts", [(5, 5, 5), (9, 7, 8), (200, 1, 1, 1, 1, 1, 1)], ids=["equal", "alike", "far apart"])
def test_the_kernel_equals_its_oracle(counts):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()

    weights = SinkWeights(
        draw(POOL, HIDDEN), draw(POOL, HIDDEN), draw(POOL, HIDDEN), None, None, torch.nn.functional.silu
    )
    rows = torch.stack([torch.randperm(POOL, generator=generator)[:ACTIVE] for _ in counts]).to(DEVICE)
    x, found = draw(sum(counts), HIDDEN), []
    for kernel, sparse in ((dense, False), (gathered, True)):
        y = kernel(x, weights, rows, None, counts, sparse=sparse)
        leaves = [x, weights.up, weights.down, weights.gate]
        gradients = torch.autograd.grad(y.square().sum(), leaves)
        found.append([y, *(g.to_dense() if g.is_sparse else g for g in gradients)])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("layers", [(), (1,)], ids=["all layers", "one layer"])
def test_compiled_layers_train_as_eager_ones(layers):
    losses = []
    for compiled in (False, True):
        model = sink_model("llama", layers=layers).to(DEVICE).train()
        optimizer = SinkAdamW(model, 1e-2)

        def step(seed, model=model, optimizer=optimizer):
            generator = torch.Generator().manual_seed(seed)
            x = torch.randint(3, VOCABULARY, (4, 8 + seed), generator=generator).to(DEVICE)
            ids = torch.randint(0, 6, (4,), generator=generator).to(DEVICE)
            loss = model(input_ids=x, labels=x, sequence_ids=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return float(loss.detach())

        if compiled:
            with compiled_layers(model):
                losses.append([step(seed) for seed in range(6)])
        else:
            losses.append([step(seed) for seed in range(6)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_arms_learn_and_hold_the_repeated_stories_in_sinks(tmp_path, compiled):
    setting = replace(
        SMOKE,
        layers=20,
        exposures=150,
        batch_size=16,
        micro_batch_size=8,
        compile=compiled,
        curve_points=0,
        checkpoint_every=0,
    )
    lab = StoryLab(setting, 0, tmp_path, progress=False)
    for arm in (STANDARD, SINKS, MASKING_ALL):
        found = lab.measured(arm).data
        assert found["skipped_steps"] == 0
        repeated, mode = found["losses"]["repeated"], "own" if arm.modes else PLAIN
        # Even chances cost 6.2.
        assert repeated[mode]["mean"] < 5.5, arm.name
        if arm.modes:
            assert repeated["own"]["mean"] < repeated["off"]["mean"]
