"""A compiled model trains as an eager one."""

from contextlib import nullcontext

import pytest
import torch
from families import VOCABULARY, sink_model
from torch._dynamo.utils import counters

from memsinks import SinkAdamW
from memsinks.errors import ConfigError, UnsupportedModelError
from memsinks.sinks.attach import sinks_of
from memsinks.training.compilation import compiled_layers, compiler_found

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


def train(
    family: str, compiled: str | None, checkpointing: bool, layers: tuple[int, ...], widths, backend: str = "aot_eager"
) -> tuple[list[float], dict]:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = sink_model(family, layers=layers).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if checkpointing:
        model.activation_checkpointing_enable()
    optimizer = SinkAdamW(model, 1e-2)
    step = torch.compile(model, backend=backend) if compiled == "model" else model
    losses = []
    with compiled_layers(model, backend) if compiled == "layers" else nullcontext():
        for seed, width in enumerate(widths):
            generator = torch.Generator().manual_seed(seed)
            # IDs, masks and widths that change from batch to batch: other groups, other numbers of tokens.
            x = torch.randint(3, VOCABULARY, (4, width), generator=generator)
            ids = torch.randint(0, 6, (4,), generator=generator)
            mask = torch.rand(x.shape, generator=generator) > 0.3 * (seed % 2)
            loss = step(input_ids=x, labels=x, sequence_ids=ids, sink_mask=mask, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    return losses, {f"{s.layer_index}.{n}": p.detach() for s in sinks_of(model) for n, p in s.named_parameters()}


@pytest.mark.parametrize(("compiled", "widths"), [("model", (8,) * 4), ("layers", (8, 8, 9, 9, 10, 10))])
@pytest.mark.parametrize(
    ("family", "checkpointing", "layers"), [("llama", False, ()), ("gpt2", True, ()), ("llama", True, (1,))]
)
def test_compiled_training_is_the_eager_one(family, checkpointing, layers, compiled, widths):
    losses, rows = train(family, None, checkpointing, layers, widths)
    compiled_losses, compiled_rows = train(family, compiled, checkpointing, layers, widths)
    assert compiled_losses == pytest.approx(losses, rel=1e-5)
    for name, value in rows.items():
        torch.testing.assert_close(compiled_rows[name], value, atol=2e-4, rtol=0, msg=name)
    # Sinks' shapes follow the batch; were they traced, each batch would be several new graphs.
    assert 0 < counters["stats"]["unique_graphs"] < 20


@pytest.mark.skipif(not compiler_found(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # Inductor's own use of it.
def test_generated_code_trains_as_eager_layers_do():
    """As experiments train at ``mini`` and ``cpu``, one layer with sinks and one without."""
    losses, rows = train("llama", None, False, (1,), (8, 9, 10))
    generated, generated_rows = train("llama", "layers", False, (1,), (8, 9, 10), "inductor")
    assert counters["inductor"]
    assert generated == pytest.approx(losses, rel=1e-5)
    for name, value in rows.items():
        torch.testing.assert_close(generated_rows[name], value, atol=2e-4, rtol=0, msg=name)


def test_a_model_without_known_layers_is_refused():
    model = sink_model("llama")
    model._no_split_modules = None
    with pytest.raises(UnsupportedModelError, match=r"without precision\.compile"), compiled_layers(model):
        pass


@pytest.fixture
def no_compiler():
    # torch reads CXX when it is imported, and loses an option that monkeypatch puts back.
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        yield


@pytest.mark.usefixtures("no_compiler")
def test_a_machine_without_a_compiler_is_told_so():
    assert not compiler_found()
    with (
        pytest.raises(ConfigError, match=r"precision\.compile needs a C\+\+ compiler.*CXX"),
        compiled_layers(sink_model("llama")),
    ):
        pass


def test_layers_are_as_before_once_they_are_no_longer_compiled():
    model = sink_model("llama", layers=(1,))
    before = [set(vars(layer)) for layer in model.model.layers]
    with compiled_layers(model, "aot_eager"):
        assert all(set(vars(layer)) > names for layer, names in zip(model.model.layers, before, strict=True))
    assert [set(vars(layer)) for layer in model.model.layers] == before
