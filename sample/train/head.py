"""The tags' layer fitted to the end, on the embeddings of a network that is no longer trained."""

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTY = 3e-5  # on the squared weights of standardised inputs, against the mean loss of a tag


def fit_head(embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One logistic regression a tag, all at once by L-BFGS: embeddings float (n, d), targets bool (n, V) -> weight (V, d), bias (V,).

    >>> x = torch.linspace(-1, 1, 41)[:, None]
    >>> weight, bias = fit_head(x, x > 0.3)
    >>> bool(((x @ weight.T + bias > 0) == (x > 0.3)).all())
    True
    """
    middle, spread = embeddings.mean(0), embeddings.std(0).clamp(min=1e-6)
    inputs, wanted = (embeddings - middle) / spread, targets.float()
    weight = torch.zeros(targets.shape[1], embeddings.shape[1], requires_grad=True)
    bias = torch.logit(wanted.mean(0), eps=1e-4).requires_grad_()
    solver = torch.optim.LBFGS([weight, bias], max_iter=80, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy_with_logits(inputs @ weight.T + bias, wanted) * len(bias)
        value += PENALTY * weight.pow(2).sum()
        value.backward()
        return value

    solver.step(loss)
    scaled = weight.detach() / spread
    return scaled, bias.detach() - scaled @ middle
