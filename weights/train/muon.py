"""Muon: momentum whose matrix is made orthogonal before each step (Jordan and others, 2024).

Works on parameters of two dimensions and more, convolutions seen as [out, in * 3 * 3]. A step moves
all directions of a weight by the same amount, which brings a plain stack of convolutions further in
few steps than Adam does. The step's size is scaled to be that of Adam's, so that one learning rate
serves both (Liu and others, "Muon is scalable for LLM training", 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of the iteration that drives all singular values towards 1, or near it, in five rounds."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; no weight decay."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                memory = self.state[p].setdefault("momentum", torch.zeros_like(p))
                memory.lerp_(p.grad, 1 - group["momentum"])
                ahead = torch.lerp(p.grad, memory, group["momentum"])
                matrix = orthogonal(ahead.flatten(1))  # [out, in * 3 * 3]
                size = 0.2 * max(matrix.shape) ** 0.5
                p.add_(matrix.view_as(p), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: singular values 0.7 to 1.2."""
    a, b, c = QUINTIC
    turned = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if turned else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if turned else x
