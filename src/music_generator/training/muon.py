"""Muon, the optimizer of the weight matrices, in the precision that the processor multiplies fast.

Jordan 2024 (https://kellerjordan.github.io/posts/muon/): momentum, whose singular values are all brought near one. The
step size is that of Liu et al. 2025 (arXiv:2502.16982, eq. 4). torch's own Muon always multiplies in bfloat16; on a
processor without it, that takes longer than the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic iteration
ITERATIONS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix (R, C) with the singular vectors of `matrix` and singular values of 0.5 to 1.5."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """The optimizer of matrices; its updates have the root mean square of AdamW's at the same learning rate.

    Args:
        matrices: Parameters of two dimensions.
        lr: Learning rate.
        weight_decay: As AdamW's: share of a weight that a step of learning rate 1 takes away.
        momentum: Of the moving average of the gradients.
        precision: Of the multiplications inside `orthogonalize`.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; a `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                # as in torch's own: a lerp towards the gradient, then Nesterov's look ahead
                average = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(average, group["momentum"]).to(self.precision)
                size = 0.2 * max(weight.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonalize(ahead).to(weight.dtype), alpha=-group["lr"] * size)
