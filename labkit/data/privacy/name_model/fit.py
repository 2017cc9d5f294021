"""Fitting the two models, with torch on one thread: a linear chain, and a choice among readings of which none may be right."""

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch

EPOCHS = 3
RATE = 0.03
DROPPED = 0.1  # share of features hidden in a step, so that no single one is relied on
# The share of examples in which a whole group of features is hidden: those of any kind, of the name itself, of what stands before it,
# of what stands after it, of both. So each group learns to tell by itself; without this the places of the templates are learned by heart.
HIDDEN = (0.0, 0.3, 0.5, 0.5, 0.5)
DECAY = 2e-5  # of the square of every weight, a step


def chain(chains: list[list[tuple[list[int], int]]], groups: "numpy.ndarray", seed: int) -> tuple["numpy.ndarray", list[list[float]]]:
    """Weights float32 (features, 2) of "begins" and "goes on" and steps (3, 3) that make the chains' labels likely (a conditional random
    field; Lafferty, McCallum and Pereira, 2001). The step from outside to "goes on" is forbidden."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    bag = torch.nn.EmbeddingBag(len(groups), 2, mode="sum")
    torch.nn.init.zeros_(bag.weight)
    kinds = torch.tensor(groups)
    steps = torch.nn.Parameter(torch.zeros(3, 3))
    forbidden = torch.zeros(3, 3)
    forbidden[0, 2] = -1e4
    draw = random.Random(seed)
    order = sorted(range(len(chains)), key=lambda at: len(chains[at]))
    batches = [order[at:at + 256] for at in range(0, len(order), 256)]
    optimiser = torch.optim.Adam([bag.weight, steps], lr=RATE)
    total = EPOCHS * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    for _ in range(EPOCHS):
        draw.shuffle(batches)
        for batch in batches:
            length = max(len(chains[at]) for at in batch)
            flat, owners, offsets, rows, columns, labels = [], [], [], [], [], torch.zeros(len(batch), length, dtype=torch.long)
            for row, at in enumerate(batch):
                for column, (line, label) in enumerate(chains[at]):
                    offsets.append(len(flat))
                    flat += line
                    owners += [len(rows)] * len(line)
                    rows.append(row)
                    columns.append(column)
                    labels[row, column] = label
            indices = torch.tensor(flat)
            shown = _shown(kinds[indices], torch.tensor(owners), len(offsets))
            out = bag(indices, torch.tensor(offsets), per_sample_weights=shown)
            emissions = torch.zeros(len(batch), length, 3).index_put((torch.tensor(rows), torch.tensor(columns)),
                                                                     torch.cat([torch.zeros(len(out), 1), out], 1))
            present = torch.zeros(len(batch), length, dtype=torch.bool)
            present[rows, columns] = True
            loss = _chain_loss(emissions, labels, present, steps + forbidden)
            (loss + DECAY * len(batch) * bag.weight[indices.unique()].square().sum() / 256).backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    return bag.weight.detach().numpy(), (steps + forbidden).detach().tolist()


def _shown(of: "torch.Tensor", rows: "torch.Tensor", count: int) -> "torch.Tensor":
    """1.0 for each feature that is shown, 0.0 for one that is hidden: `of` is its group, `rows` its example of `count`."""
    import torch

    hidden = torch.rand(count, len(HIDDEN)) < torch.tensor(HIDDEN)
    return ((~hidden[rows, of]) & (torch.rand(len(of)) >= DROPPED)).float()


def _chain_loss(emissions, labels, present, steps):
    """The mean negative log likelihood of the labels (batch, length); emissions (batch, length, 3). A chain begins from outside."""
    import torch

    batch, length, _ = emissions.shape
    rows = torch.arange(batch)
    alpha = steps[0] + emissions[:, 0]
    gold = steps[0][labels[:, 0]] + emissions[rows, 0, labels[:, 0]]
    for at in range(1, length):
        here = present[:, at]
        moved = torch.logsumexp(alpha[:, :, None] + steps[None], 1) + emissions[:, at]
        alpha = torch.where(here[:, None], moved, alpha)
        gold = gold + torch.where(here, steps[labels[:, at - 1], labels[:, at]] + emissions[rows, at, labels[:, at]], torch.zeros(batch))
    return (torch.logsumexp(alpha, 1) - gold).mean()


def choice(choices: list[tuple[list[list[int]], int]], groups: "numpy.ndarray", seed: int) -> "numpy.ndarray":
    """Weights float32 (features,) that make the right reading of each candidate likely, or none of them (-1), which scores 0."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    bag = torch.nn.EmbeddingBag(len(groups), 1, mode="sum")
    torch.nn.init.zeros_(bag.weight)
    kinds = torch.tensor(groups)
    draw = random.Random(seed)
    order = list(range(len(choices)))
    widest = max(len(readings) for readings, _ in choices)
    optimiser = torch.optim.Adam([bag.weight], lr=RATE)
    count = (len(order) + 511) // 512
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / (EPOCHS * count))
    for _ in range(EPOCHS):
        draw.shuffle(order)
        for begin in range(0, len(order), 512):
            batch = order[begin:begin + 512]
            flat, owners, offsets, rows, columns, targets = [], [], [], [], [], []
            for row, at in enumerate(batch):
                readings, target = choices[at]
                targets.append(target + 1)
                for column, line in enumerate(readings):
                    offsets.append(len(flat))
                    flat += line
                    owners += [row] * len(line)
                    rows.append(row)
                    columns.append(column + 1)
            indices = torch.tensor(flat)
            shown = _shown(kinds[indices], torch.tensor(owners), len(batch))
            out = bag(indices, torch.tensor(offsets), per_sample_weights=shown)[:, 0]
            scores = torch.full((len(batch), widest + 1), -1e4)
            scores[:, 0] = 0
            scores = scores.index_put((torch.tensor(rows), torch.tensor(columns)), out)
            loss = torch.nn.functional.cross_entropy(scores, torch.tensor(targets))
            (loss + DECAY * len(batch) * bag.weight[indices.unique()].square().sum() / 512).backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    return bag.weight.detach()[:, 0].numpy()
