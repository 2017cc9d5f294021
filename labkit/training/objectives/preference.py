"""What people prefer: losses of answers' log-probabilities, as the papers write them.

`labkit.training.preference` trains by these through TRL; here they stand to be read, plotted and checked against it. A
log-probability is an answer's sum over its tokens (`cross_entropy.sequence_log_likelihood`), except where it says mean.
"""

from typing import TYPE_CHECKING

from labkit.training.objectives import Losses

if TYPE_CHECKING:
    import torch


def dpo(chosen: "torch.Tensor", rejected: "torch.Tensor", reference_chosen: "torch.Tensor", reference_rejected: "torch.Tensor", *,
        beta: float = 0.1) -> Losses:
    """-log sigma(beta ((log p(chosen) - log q(chosen)) - (log p(rejected) - log q(rejected)))), p being the model and q the reference it
    started from (Rafailov et al. 2023, equation 7, https://arxiv.org/abs/2305.18290). Where p is q, log 2.

    Args:
        chosen, rejected, reference_chosen, reference_rejected: log-probabilities, (pairs,) each.
        beta: how much leaving the reference costs; larger keeps nearer.

    Returns:
        Losses (pairs,).
    """
    import torch

    gain = (chosen.float() - reference_chosen.float()) - (rejected.float() - reference_rejected.float())
    values = -torch.nn.functional.logsigmoid(beta * gain)
    return Losses(values, torch.ones_like(values))


def orpo(chosen: "torch.Tensor", rejected: "torch.Tensor", likelihood_loss: "torch.Tensor", *, beta: float = 0.1) -> Losses:
    """The chosen answer's own loss, and beta times -log sigma(log odds(chosen) - log odds(rejected)) with odds(y) = p / (1 - p); no
    reference (Hong et al. 2024, equations 4, 6 and 7, https://arxiv.org/abs/2403.07691).

    Args:
        chosen, rejected: mean log-probabilities a token, (pairs,) each, p being their exponential.
        likelihood_loss: the mean negative log-likelihood of what is learned by plain training, (pairs,) or a scalar.
        beta: the paper's lambda.

    Returns:
        Losses (pairs,).
    """
    import torch

    values = likelihood_loss.float() - beta * torch.nn.functional.logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return Losses(values, torch.ones_like(values))


def kto(logs: "torch.Tensor", reference: "torch.Tensor", desirable: "torch.Tensor", divergence: "torch.Tensor", *, beta: float = 0.1,
        desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> Losses:
    """Answers that are good or bad by themselves: weight (1 - sigma(beta (r - z))) for a good one, weight (1 - sigma(beta (z - r))) for
    a bad one, r being log p - log q (Ethayarajh et al. 2024, equations 7 and 8, https://arxiv.org/abs/2402.01306).

    Args:
        logs, reference: the answers' log-probabilities under the model and the reference, (answers,) each.
        desirable: bool (answers,).
        divergence: the point z that gains and losses are counted from, a scalar, see `kto_divergence`.

    Returns:
        Losses (answers,).
    """
    import torch

    gain = beta * (logs.float() - reference.float() - divergence.float())
    values = torch.where(desirable, desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain))
    return Losses(values, torch.ones_like(values))


def kto_divergence(logs: "torch.Tensor", reference: "torch.Tensor") -> "torch.Tensor":
    """The estimate of how far the model is from the reference, max(0, mean(log p - log q)), a scalar without a gradient, from answers to
    other prompts than theirs (Ethayarajh et al. 2024, section 4.1).

    Args:
        logs, reference: log-probabilities of mismatched answers, (answers,) each.
    """
    return (logs.detach().float() - reference.detach().float()).mean().clamp(min=0)


def _log_odds(logs: "torch.Tensor") -> "torch.Tensor":
    """log(p / (1 - p)) from log p <= 0. A p that rounds to 1 is taken as the number below it, so that the odds stay finite."""
    import torch

    under = -logs.float().clamp(max=-torch.finfo(torch.float32).eps)
    return -under - (-torch.expm1(-under)).log()
