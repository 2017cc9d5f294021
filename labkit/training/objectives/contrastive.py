"""Texts near and far: what an encoder learns from which texts belong together.

Similarities are cosines unless said otherwise, so embeddings need not have length 1. A loss of this kind looks at a whole batch at
once and cannot be summed over parts of it; `caching.cached_gradients` gives the whole batch's exact gradient from parts.
"""

from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training.objectives import Losses

if TYPE_CHECKING:
    import torch

DISTANCES = ("cosine", "euclidean")


def info_nce(queries: "torch.Tensor", keys: "torch.Tensor", negatives: "torch.Tensor | None" = None, *, temperature: float = 0.05,
             both_directions: bool = False, groups: "torch.Tensor | None" = None) -> Losses:
    """How well each query finds its key among all keys: cross-entropy over similarities / temperature (van den Oord et al. 2018, section
    2.3, https://arxiv.org/abs/1807.03748).

    Args:
        queries: (pairs, hidden).
        keys: (pairs, hidden); the key in a query's row belongs to it, the others do not.
        negatives: further keys that belong to none, (negatives, hidden), or so many for each pair, (pairs, negatives, hidden); every
            query is compared with all of them.
        both_directions: the mean of this and of how well each key finds its query, without `negatives` (Radford et al. 2021, section
            2.3, https://arxiv.org/abs/2103.00020).
        groups: int64 (pairs,); keys of a query's own group are no negatives of it, though they are not its own.

    Returns:
        Losses (pairs,).
    """
    import torch

    first, second = _unit(queries), _unit(keys)
    own = torch.arange(len(first), device=first.device)
    hidden = None if groups is None else _same(groups) & (own[:, None] != own)
    scores = first @ second.T / temperature  # (pairs, pairs)
    if hidden is not None:
        scores = scores.masked_fill(hidden, _lowest())
    everything = scores
    if negatives is not None:
        others = _unit(negatives.reshape(-1, negatives.shape[-1]))
        everything = torch.cat([scores, first @ others.T / temperature], 1)
    values = torch.nn.functional.cross_entropy(everything, own, reduction="none")
    if both_directions:
        values = (values + torch.nn.functional.cross_entropy(scores.T, own, reduction="none")) / 2
    return Losses(values, torch.ones_like(values))


def multiple_negatives(anchors: "torch.Tensor", positives: "torch.Tensor", negatives: "torch.Tensor | None" = None, *,
                       scale: float = 20.0) -> Losses:
    """`info_nce` under the name and with the scale (1 / temperature) that it has for sentence embeddings (Henderson et al. 2017, section
    4.4, https://arxiv.org/abs/1705.00652)."""
    return info_nce(anchors, positives, negatives, temperature=1 / scale)


def supervised_contrastive(embeddings: "torch.Tensor", labels: "torch.Tensor", *, temperature: float = 0.07) -> Losses:
    """How near each text is to those of its label, against all others: for an anchor, the mean over its positives of the cross-entropy
    among all other texts (Khosla et al. 2020, equation 2, the sum over positives outside the logarithm, https://arxiv.org/abs/2004.11362).

    Args:
        embeddings: (texts, hidden).
        labels: int64 (texts,).

    Returns:
        Losses (texts,); a text that is alone with its label has value and weight 0.
    """
    import torch

    unit = _unit(embeddings)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positives = _same(labels) & ~itself
    scores = (unit @ unit.T / temperature).masked_fill(itself, _lowest())
    logs = torch.log_softmax(scores, -1).masked_fill(~positives, 0.0)
    count = positives.sum(-1)
    return Losses(-logs.sum(-1) / count.clamp(min=1), (count > 0).float())


def triplet(anchors: "torch.Tensor", positives: "torch.Tensor", negatives: "torch.Tensor", *, margin: float,
            distance: str = "cosine") -> Losses:
    """max(d(anchor, positive) - d(anchor, negative) + margin, 0) (Schroff et al. 2015, section 3.1, https://arxiv.org/abs/1503.03832).

    Args:
        anchors, positives, negatives: (triplets, hidden) each.
        distance: `cosine` (1 - cosine, 0 to 2) or `euclidean`.

    Returns:
        Losses (triplets,).
    """
    import torch

    _check(distance)
    if distance == "cosine":
        first = _unit(anchors)
        near, far = (1 - (first * _unit(others)).sum(-1) for others in (positives, negatives))
    else:
        near, far = (torch.linalg.vector_norm(anchors.float() - others.float(), dim=-1) for others in (positives, negatives))
    values = torch.relu(near - far + margin)
    return Losses(values, torch.ones_like(values))


def batch_hard(embeddings: "torch.Tensor", labels: "torch.Tensor", *, margin: float, distance: str = "cosine") -> Losses:
    """For each text as the anchor, the triplet with its farthest positive and its nearest negative (Hermans et al. 2017, equation 5,
    https://arxiv.org/abs/1703.07737).

    Args:
        embeddings: (texts, hidden).
        labels: int64 (texts,).

    Returns:
        Losses (texts,); a text without a positive or without a negative has value and weight 0.
    """
    import torch

    apart = _distances(embeddings, distance)
    same = _same(labels)
    positives = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    there = positives.any(-1) & (~same).any(-1)
    farthest = apart.masked_fill(~positives, -torch.inf).amax(-1)
    nearest = apart.masked_fill(same, torch.inf).amin(-1)
    values = torch.relu(torch.where(there, farthest - nearest + margin, 0.0))
    return Losses(values, there.float())


def batch_all(embeddings: "torch.Tensor", labels: "torch.Tensor", *, margin: float, distance: str = "cosine",
              over: str = "active") -> Losses:
    """All triplets that the labels allow, summed for each anchor (Hermans et al. 2017, equation 7, https://arxiv.org/abs/1703.07737).

    Memory grows with pairs of one label x texts: 64 texts of 4 labels make 61,440 triplets.

    Args:
        embeddings: (texts, hidden).
        labels: int64 (texts,).
        over: what the weights count: `active` triplets, whose loss is above 0 (the paper's BA!=0), or `all`.

    Returns:
        Losses (texts,), values and weights summed over each anchor's triplets.
    """
    import torch

    if over not in ("active", "all"):
        raise LabError(f"triplets are averaged over active or all of them, not {over!r}")
    apart = _distances(embeddings, distance)
    same = _same(labels)
    anchors, positives = (same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)).nonzero(as_tuple=True)
    negatives = ~same[anchors]  # (pairs, texts)
    found = torch.relu(apart[anchors, positives][:, None] - apart[anchors] + margin).masked_fill(~negatives, 0.0)
    counted = (found > 0 if over == "active" else negatives).float()
    sums = lambda each: torch.zeros(len(same), device=each.device).index_add(0, anchors, each.sum(-1))  # noqa: E731
    return Losses(sums(found), sums(counted))


def cosine_pairs(first: "torch.Tensor", second: "torch.Tensor", similarity: "torch.Tensor") -> Losses:
    """(cosine - wanted similarity)^2, as SetFit trains its encoder on pairs of label (Tunstall et al. 2022, section 3,
    https://arxiv.org/abs/2209.11055; Reimers and Gurevych 2019, section 3, https://arxiv.org/abs/1908.10084).

    Args:
        first, second: (pairs, hidden) each.
        similarity: (pairs,), 1 for texts of one label, 0 for others, or anything between.

    Returns:
        Losses (pairs,).
    """
    import torch

    values = ((_unit(first) * _unit(second)).sum(-1) - similarity.float()).square()
    return Losses(values, torch.ones_like(values))


def _unit(embeddings: "torch.Tensor") -> "torch.Tensor":
    """Embeddings of length 1, float32; one of zeros stays so."""
    import torch

    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def _same(labels: "torch.Tensor") -> "torch.Tensor":
    return labels[:, None] == labels  # (texts, texts)


def _lowest() -> float:
    """A score that the softmax makes 0. Not -inf: where nothing else is left, a gradient of NaN would come of it."""
    import torch

    return torch.finfo(torch.float32).min


def _distances(embeddings: "torch.Tensor", distance: str) -> "torch.Tensor":
    """(texts, texts), float32. Two embeddings in one place have a gradient of 0, not of NaN."""
    import torch

    _check(distance)
    if distance == "cosine":
        unit = _unit(embeddings)
        return 1 - unit @ unit.T
    exact = embeddings.float()
    return torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")  # by products, near ones lose all their digits


def _check(distance: str) -> None:
    if distance not in DISTANCES:
        raise LabError(f"the distance of triplets must be one of {', '.join(DISTANCES)}, not {distance!r}")
