"""SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's factors.

Parameters of two or more dimensions are stacks of matrices in their last two; parameters with a last-but-one dimension
of 1, and vectors, get plain Adam.
"""

from __future__ import annotations

import torch


class Soap(torch.optim.Optimizer):
    """SOAP optimiser for small stacks of matrices.

    Parameters
    ----------
    params, lr, betas, eps :
        as for torch.optim.Adam
    shampoo_beta : float
        decay of the factors
    every : int
        steps between updates of the basis
    """

    def __init__(self, params, lr=3e-3, betas=(0.95, 0.95), shampoo_beta=0.95, every=10, eps=1e-8):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "shampoo_beta": shampoo_beta, "every": every})

    @staticmethod
    def _start(state, grad):
        state["step"] = 0
        state["m"] = torch.zeros_like(grad)
        state["v"] = torch.zeros_like(grad)
        state["matrix"] = grad.dim() >= 2 and grad.shape[-2] > 1
        if state["matrix"]:
            state["left"] = grad @ grad.mT
            state["right"] = grad.mT @ grad
            state["q_left"] = torch.linalg.eigh(state["left"])[1]
            state["q_right"] = torch.linalg.eigh(state["right"])[1]

    @staticmethod
    def _rotate_basis(state):
        """One power iteration for both bases, v kept in their order."""
        for side, axis in (("left", -2), ("right", -1)):
            basis = state["q_" + side]
            product = state[side] @ basis
            size = (basis * product).sum(-2)
            order = torch.argsort(size, dim=-1, descending=True)
            product = torch.gather(product, -1, order.unsqueeze(-2).expand_as(product))
            order = order.unsqueeze(-1) if axis == -2 else order.unsqueeze(-2)
            state["v"] = torch.gather(state["v"], axis, order.expand_as(state["v"]))
            state["q_" + side] = torch.linalg.qr(product)[0]

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all parameters."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                grad = param.grad
                if grad is None or not param.numel():
                    continue
                state = self.state[param]
                if not state:
                    self._start(state, grad)
                state["step"] += 1
                state["m"].lerp_(grad, 1 - beta1)
                moment = state["m"]
                if state["matrix"]:
                    weight = 1 - group["shampoo_beta"]
                    state["left"].lerp_(grad @ grad.mT, weight)
                    state["right"].lerp_(grad.mT @ grad, weight)
                    left, right = state["q_left"], state["q_right"]
                    grad = left.mT @ grad @ right
                    moment = left.mT @ moment @ right
                state["v"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
                update = moment / (state["v"].sqrt() + group["eps"])
                if state["matrix"]:
                    update = left @ update @ right.mT
                param.sub_(update, alpha=group["lr"] * correction)
                if state["matrix"] and state["step"] % group["every"] == 0:
                    self._rotate_basis(state)
