"""Labels, several labels at once, numbers, and the likelihood of a text, each with what may be ignored left out exactly."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training.objectives import IGNORED, Losses

if TYPE_CHECKING:
    import torch


def class_weights(kind: str, counts: Sequence[int]) -> "torch.Tensor | None":
    """How much each label counts, float32 (labels,), or None where all count 1.

    Args:
        kind: `none`, or `balanced`: rows / (labels that occur x rows of the label), so that a row counts 1 on average (King and Zeng
            2001, Logistic regression in rare events data, section 4.2). A label without a row gets 0.
        counts: rows of each label.

    Raises:
        LabError: another kind, or no row at all.
    """
    import torch

    if kind == "none":
        return None
    if kind != "balanced":
        raise LabError(f"class weights must be none or balanced, not {kind!r}")
    rows = torch.tensor(counts, dtype=torch.float64)
    there = rows > 0
    if not there.any():
        raise LabError("balanced class weights need at least one labelled row")
    return torch.where(there, rows.sum() / (there.sum() * rows.clamp(min=1)), 0.0).float()


def cross_entropy(scores: "torch.Tensor", labels: "torch.Tensor", *, class_weights: "torch.Tensor | None" = None,
                  label_smoothing: float = 0.0, focal_gamma: float = 0.0) -> Losses:
    """Cross-entropy of one label each: of a text, of each token, of any place.

    Without focal weighting the mean is that of `torch.nn.functional.cross_entropy`; with label smoothing, too, the weights are those
    of the wanted labels. The mean is over labels, not over texts.

    Args:
        scores: (..., labels), before the softmax.
        labels: int64 (...); where it is -100, value and weight are 0.
        class_weights: float32 (labels,), see `class_weights`.
        label_smoothing: share of the target's probability that is spread over all labels (Szegedy et al. 2016, section 7,
            https://arxiv.org/abs/1512.00567).
        focal_gamma: weighs a loss by (1 - p)^gamma, p being the wanted label's probability (Lin et al. 2017, equations 4 and 5,
            https://arxiv.org/abs/1708.02002); with label smoothing, the smoothed loss.

    Returns:
        Losses of the shape of `labels`.
    """
    import torch

    there = labels != IGNORED
    wanted = labels.masked_fill(~there, 0)
    logs = torch.log_softmax(scores.float(), -1)
    weights = torch.ones_like(wanted, dtype=torch.float32) if class_weights is None else class_weights.float()[wanted]
    own = logs.gather(-1, wanted[..., None])[..., 0]
    values = -weights * own
    if label_smoothing:
        spread = -logs.mean(-1) if class_weights is None else -(logs * class_weights.float()).mean(-1)
        values = (1 - label_smoothing) * values + label_smoothing * spread
    if focal_gamma:
        values = values * _others(logs, wanted).mul(focal_gamma).exp()
    return Losses(values.masked_fill(~there, 0.0), weights.masked_fill(~there, 0.0))


def _others(logs: "torch.Tensor", wanted: "torch.Tensor") -> "torch.Tensor":
    """log(1 - p) of the wanted labels, (...), as the sum over the other labels: finite, as its gradient, also where p rounds to 1."""
    import torch

    chosen = torch.nn.functional.one_hot(wanted, logs.shape[-1]).bool()
    lowest = torch.finfo(torch.float32).min / 2  # not -inf: with a single label there is no other, and no NaN may come of it
    return logs.masked_fill(chosen, lowest).logsumexp(-1)


def multi_label(scores: "torch.Tensor", targets: "torch.Tensor", *, positive_weights: "torch.Tensor | None" = None,
                label_smoothing: float = 0.0, focal_gamma: float = 0.0) -> Losses:
    """Binary cross-entropy of any number of labels at once. The mean is that of `binary_cross_entropy_with_logits`: over rows and labels.

    Args:
        scores: (..., labels), before the logistic function.
        targets: (..., labels), 0 or 1, or a probability; where it is -100, value and weight are 0.
        positive_weights: float32 (labels,), how much a label counts where it holds.
        label_smoothing: draws targets towards a half: t (1 - smoothing) + smoothing / 2.
        focal_gamma: weighs what a label that holds loses by (1 - p)^gamma and what one that does not by p^gamma (Lin et al. 2017,
            section 3, https://arxiv.org/abs/1708.02002, where the loss is this binary one).

    Returns:
        Losses of the shape of `scores`.
    """
    import torch

    there = targets != IGNORED
    exact = scores.float()
    wanted = targets.float().masked_fill(~there, 0.0)
    if label_smoothing:
        wanted = wanted * (1 - label_smoothing) + label_smoothing / 2
    yes, no = torch.nn.functional.logsigmoid(exact), torch.nn.functional.logsigmoid(-exact)  # log p and log(1 - p)
    holds, not_holds = -wanted * yes, -(1 - wanted) * no
    if positive_weights is not None:
        holds = holds * positive_weights.float()
    if focal_gamma:
        holds, not_holds = holds * (focal_gamma * no).exp(), not_holds * (focal_gamma * yes).exp()
    return Losses((holds + not_holds).masked_fill(~there, 0.0), there.float())


def squared_error(predictions: "torch.Tensor", targets: "torch.Tensor") -> Losses:
    """The squared difference of numbers, in the square of their unit. Where the target is not a number (NaN), value and weight are 0.

    Args:
        predictions: (...).
        targets: (...).
    """
    import torch

    there = ~torch.isnan(targets)
    exact = predictions.float()
    wanted = torch.where(there, targets.float(), 0.0)
    return Losses((exact - wanted).square().masked_fill(~there, 0.0), there.float())


def sequence_log_likelihood(scores: "torch.Tensor", labels: "torch.Tensor") -> Losses:
    """The log-likelihood of each text, log p(y | x) = sum over t of log p(y_t | x, y_<t), nats, with the number of its tokens as weight.

    `-values / weights` is a text's mean negative log-likelihood, `exp` of it its perplexity; `-mean()` is the mean over all tokens, what
    a language model is trained on.

    Args:
        scores: (texts, tokens, vocabulary), those at a place are for the token behind it.
        labels: int64 (texts, tokens), in the places of the tokens themselves; -100 where a token does not count (prompt, padding).

    Returns:
        Values and weights float32 (texts,).
    """
    found = cross_entropy(scores[:, :-1], labels[:, 1:])
    return Losses(-found.values.sum(-1), found.weights.sum(-1))
