"""AdamW that leaves idle sinks alone.

Stock AdamW moves a weight whose gradient is zero, by its momentum and its decay, so a sink would drift in every step
that does not use it. Here a sink's row, moments and step count change only in steps whose batch *selected* the row.
Whether it did is known from selection, never guessed from the gradient, which may be zero for a selected row.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from memsinks.errors import ConfigError
from memsinks.sinks.attach import SinkModel, sinks_of
from memsinks.sinks.layer import Sinks
from memsinks.training.exchange import exchange
from memsinks.training.ranks import ranks, reduced
from memsinks.training.row_gradients import sum_rows

Gradients = Literal["rows", "dense"]


class SinkAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019) over shared weights, and row by row over sinks.

    The gradient norm is taken over both, each touched row once; a step whose norm is not finite changes nothing and
    is counted in :attr:`skipped_steps`.

    Args:
        model: with sinks attached, or without, or a wrapper around either.
        lr: learning rate of shared weights.
        betas, eps: as in ``torch.optim.AdamW``; per-row step counts correct the sinks' bias.
        weight_decay: of shared matrices; vectors (norms, biases) are not decayed.
        sink_lr_multiplier: sinks learn this many times as fast.
        sink_weight_decay: of touched rows, in the steps that touch them.
        max_grad_norm: global clipping threshold, or None.
        gradients: ``rows`` makes the sinks' gradients row-sparse, so that a step costs what it touches; ``dense``
            keeps ordinary gradients and records the selected rows (the oracle; needed by the dense kernel).

    Where torch.distributed is running, sinks' gradients are averaged over all ranks before the norm is taken
    (:mod:`memsinks.training.exchange`); those of shared weights are DDP's or FSDP2's to average.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        sink_lr_multiplier: float = 1.0,
        sink_weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
        gradients: Gradients | None = None,
    ) -> None:
        layers = list(sinks_of(model))
        kernels = {sinks.kernel for sinks in layers}
        gradients = gradients or ("dense" if "dense" in kernels else "rows")
        if gradients == "rows" and "dense" in kernels:
            raise ConfigError(
                "the dense kernel has no row-sparse gradients; use gradients='dense' or kernel='gathered'"
            )
        for sinks in layers:
            sinks.row_sparse = gradients == "rows"
            sinks.touched = None if sinks.row_sparse else []
        rows = [p for sinks in layers for p in sinks.parameters()]
        row_set = set(rows)
        shared = [p for p in model.parameters() if p.requires_grad and p not in row_set]
        # One pass over shared weights instead of several; "rows" are stepped here.
        fused = {"fused": all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in shared)}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in shared if p.ndim >= 2], "weight_decay": weight_decay, **fused},
            {"params": [p for p in shared if p.ndim < 2], "weight_decay": 0.0, **fused},
            {"params": rows, "lr": lr * sink_lr_multiplier, "weight_decay": sink_weight_decay, "rows": True},
        ]
        super().__init__([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps)
        self.param_groups[0]["skipped_steps"] = 0
        self.max_grad_norm = max_grad_norm
        self._owner: dict[Tensor, Sinks] = {p: sinks for sinks in layers for p in sinks.parameters()}
        self._exchanged = False

    @property
    def skipped_steps(self) -> int:
        """Steps left out because the gradient norm was not finite."""
        return self.param_groups[0]["skipped_steps"]

    @torch.no_grad()
    def grad_norm(self) -> Tensor:
        """Global norm of all gradients over all ranks, before clipping."""
        return _norm(*self._gradients())

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step over shared weights and touched rows, or none at all if the gradient norm is not finite."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        whole, sharded = self._gradients()
        # This step uses them up, whoever empties them: Trainer does it through the model.
        self._exchanged = False
        norm = _norm(whole, sharded)
        touched = self._take_touched()
        if not torch.isfinite(norm):
            self.param_groups[0]["skipped_steps"] += 1
            return loss
        if self.max_grad_norm is not None and norm > self.max_grad_norm:
            torch._foreach_mul_(whole + sharded, self.max_grad_norm / (norm + 1e-6))
        held = []
        for group in self.param_groups:
            if "rows" not in group:
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_rows(parameter, group, touched)
                    # AdamW passes over parameters without a gradient.
                    held.append((parameter, parameter.grad))
                    parameter.grad = None
        super().step()
        for parameter, grad in held:
            parameter.grad = grad
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and which rows they touched."""
        super().zero_grad(set_to_none)
        self._take_touched()
        self._exchanged = False
        for sinks in self._layers():
            sinks.pending.clear()

    def _take_touched(self) -> dict[nn.Module, Tensor]:
        """Rows selected since the last step, where layers record them (dense gradients)."""
        taken = {}
        for sinks in self._layers():
            if sinks.touched is not None:
                taken[sinks] = torch.cat(sinks.touched).unique() if sinks.touched else None
                sinks.touched.clear()
        return {sinks: rows for sinks, rows in taken.items() if rows is not None}

    def _layers(self) -> list[Sinks]:
        return list(dict.fromkeys(self._owner.values()))

    def _gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """The numbers of all gradients, of sparse ones each row once: whole ones, and this rank's part of the rest."""
        if not self._exchanged and ranks() > 1:
            exchange(self._layers())
        self._exchanged = True
        sum_rows(self._layers())
        whole: list[Tensor] = []
        sharded: list[Tensor] = []
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            grad = parameter.grad
            if isinstance(grad, DTensor):
                sharded.append(grad.to_local())
                continue
            if grad.is_sparse:
                grad = grad.values()
            owner = self._owner.get(parameter)
            (whole if owner is None or owner.shard is None else sharded).append(grad)
        return whole, sharded

    def _step_rows(self, parameter: Tensor, group: dict[str, Any], touched: dict[nn.Module, Tensor]) -> None:
        grad = parameter.grad
        assert grad is not None
        if grad.is_sparse:
            rows, grad = grad._indices()[0], grad._values()
        elif (owner := self._owner[parameter]) in touched:
            rows = touched[owner]
            grad = grad[rows]
        else:
            return
        if not len(rows):
            return
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(len(parameter), dtype=torch.int64, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        elif len(state["step"]) > len(parameter):
            raise ConfigError("sinks were removed since this optimiser's last step; make a new one")
        elif len(state["step"]) < len(parameter):
            # The pool has grown since.
            for name, value in state.items():
                state[name] = torch.cat([value, value.new_zeros(len(parameter) - len(value), *value.shape[1:])])
        beta1, beta2 = group["betas"]
        steps = state["step"].index_select(0, rows) + 1
        mean = state["exp_avg"].index_select(0, rows).lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        exponent = steps.double()[:, None]
        correction1 = 1 - beta1**exponent
        correction2 = (1 - beta2**exponent).sqrt()
        # AdamW's quotient with both corrections in its denominator, so that each row needs no step size of its own.
        denominator = square.sqrt().mul_((correction1 / correction2).to(grad.dtype))
        denominator.add_((correction1 * group["eps"]).to(grad.dtype))
        new = parameter.index_select(0, rows)
        if group["weight_decay"]:
            new.mul_(1 - group["lr"] * group["weight_decay"])
        new.addcdiv_(mean, denominator, value=-group["lr"])
        for tensor, values in (
            (parameter, new),
            (state["exp_avg"], mean),
            (state["exp_avg_sq"], square),
            (state["step"], steps),
        ):
            tensor.index_copy_(0, rows, values)


def _norm(whole: list[Tensor], sharded: list[Tensor]) -> Tensor:
    """Norm over gradients that every rank has whole, and over the parts that each rank has of the others."""
    norms = [norm.float() for norm in torch._foreach_norm(whole)] if whole else []
    if sharded:
        squares = torch.stack([norm.float() for norm in torch._foreach_norm(sharded)]).square().sum()
        norms.append(reduced(squares).sqrt())
    return torch.stack(norms).norm() if norms else torch.zeros(())


def uses_sinks(model: nn.Module) -> bool:
    """Whether the model, or the model inside a wrapper, has sinks."""
    return any(isinstance(module, SinkModel) for module in model.modules())
