"""What an encoder's heads and embeddings lose, by a recipe: sums and weights for each head, one loss for all, and contrastive losses.

Built from `objectives`, which knows nothing about heads and recipes.
"""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training import methods
from labkit.training.objectives import Losses, contrastive, cross_entropy, multitask, pairing
from labkit.training.objectives.caching import cached_gradients
from labkit.training.objectives.distillation import distillation
from labkit.training.recipe import Recipe
from labkit.training.tasks import texts
from labkit.training.tasks.task import Example, Head, Outputs, Prepared
from labkit.training.world import World

if TYPE_CHECKING:
    import torch

_PAIRS_EACH = 2  # pairs drawn for each text of a batch


class HeadLosses:
    """Losses of the heads of some data.

    Raises:
        LabError: the recipe's weights do not fit the heads.
    """

    def __init__(self, recipe: Recipe, data: Prepared) -> None:
        self.recipe = recipe
        self.heads = {head.name: head for head in data.heads if head.outputs}
        self.labelled = [head for head in data.heads if head.kind in ("label", "none")]
        if recipe.task_weights and len(recipe.task_weights) != len(self.heads):
            raise LabError(f"recipe: task_weights has {len(recipe.task_weights)} numbers for {len(self.heads)} heads")
        kinds = {head.kind for head in self.heads.values()}
        if recipe.class_weights != "none" and "label" not in kinds:
            raise LabError("recipe: class_weights are of heads with one label a text; leave them out")
        for name in ("label_smoothing", "focal_gamma"):
            if getattr(recipe, name) and not kinds & {"label", "labels", "tags"}:
                raise LabError(f"recipe: {name} is for labels and tags; task {recipe.task!r} has none, leave it out")
        self.begin()
        self.class_weights = {}
        for name, head in self.heads.items():
            if head.kind == "label" and recipe.class_weights != "none":
                self.class_weights[name] = cross_entropy.class_weights(recipe.class_weights, texts.label_counts(data.train, head))

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """What each head's summed loss over these examples is divided by; 0 where none of them has a target for it."""
        found = {}
        for name, head in self.heads.items():
            targets = [example.targets[name] for example in examples if name in example.targets]
            match head.kind:
                case "label":
                    known = self.class_weights.get(name)
                    found[name] = float(len(targets)) if known is None else float(sum(known[target] for target in targets))
                case "tags":
                    found[name] = float(sum(tag != cross_entropy.IGNORED for tags in targets for tag in tags))
                case "labels":
                    found[name] = float(len(targets) * head.outputs)
                case "span":
                    found[name] = 2.0 * len(targets)
                case _:
                    found[name] = float(len(targets))
        return found

    def sums(self, outputs: "dict[str, torch.Tensor]", examples: Sequence[Example], taught: bool = True) -> "dict[str, torch.Tensor]":
        """Each head's summed loss over the examples of a padded batch, scalars with a graph; heads without a target are left out.
        `taught`: with what a teacher gives, where the examples have it."""
        found = {}
        for name, head in self.heads.items():
            places = [place for place, example in enumerate(examples) if name in example.targets]
            if places:
                chosen, scores = [examples[place] for place in places], outputs[name][places]
                if head.kind == "span":
                    scores = _within(scores, chosen)
                losses = self._losses(head, scores, chosen)
                if taught and chosen[0].soft:
                    losses = _taught(self.recipe, head, losses, scores, chosen)
                found[name] = losses.values.sum()
        return found

    def _losses(self, head: Head, scores: "torch.Tensor", examples: Sequence[Example]) -> Losses:
        import torch

        targets = [example.targets[head.name] for example in examples]
        tensor = lambda values, dtype: torch.tensor(values, dtype=dtype, device=scores.device)  # noqa: E731
        softened = {"label_smoothing": self.recipe.label_smoothing, "focal_gamma": self.recipe.focal_gamma}
        if head.kind == "number":
            return cross_entropy.squared_error(scores[..., 0], tensor(targets, torch.float32))
        if head.kind == "labels":
            return cross_entropy.multi_label(scores, tensor(targets, torch.float32), **softened)
        if head.kind == "tags":
            longest = scores.shape[1]
            padded = [list(tags) + [cross_entropy.IGNORED] * (longest - len(tags)) for tags in targets]
            return cross_entropy.cross_entropy(scores, tensor(padded, torch.int64), **softened)
        if head.kind == "span":
            return cross_entropy.cross_entropy(scores.transpose(1, 2), tensor(targets, torch.int64))  # (texts, 2, tokens)
        known = self.class_weights.get(head.name)
        balance = None if known is None else known.to(scores.device)
        return cross_entropy.cross_entropy(scores, tensor(targets, torch.int64), class_weights=balance, **softened)

    def combined(self, means: "dict[str, torch.Tensor]", model: "torch.nn.Module", shares: dict[str, float]) -> "torch.Tensor":
        """One loss from the heads' losses (summed over a micro-batch, divided by the whole batch's weight).

        Args:
            shares: of each head's weight in the batch, what lies in the micro-batch; they add up to 1 over the parts.
        """
        import torch

        if not means:
            return next(parameter for parameter in model.parameters() if parameter.requires_grad).sum() * 0.0
        names = list(means)
        losses = torch.stack([means[name] for name in names])
        order = list(self.heads)
        places = [order.index(name) for name in names]
        if self.recipe.task_weighting == "uncertainty":
            learned = model.log_variances[places]
            parts = torch.tensor([shares[name] for name in names], device=losses.device)
            weighed = multitask.uncertainty(losses, learned, [self.heads[name].kind == "number" for name in names], 0.0)
            return weighed + (parts * learned.float()).sum() / 2  # log sigma, once a step for each head that learns in it
        if self.recipe.task_weighting == "gradient_norm":
            self._gather(means, model)
            return multitask.fixed(losses, model.task_balance.detach()[places])
        weights = self.recipe.task_weights
        return multitask.fixed(losses, [weights[place] for place in places] if weights else None)

    def begin(self) -> None:
        """Forget what an interrupted step gathered; to be called before a batch's first part."""
        self._gathered: dict[str, tuple[list[torch.Tensor], float]] = {}

    def _gather(self, means: "dict[str, torch.Tensor]", model: "torch.nn.Module") -> None:
        """Add each head's gradient to the last shared layer, and its loss, to what the batch's earlier parts gave."""
        import torch

        shared = shared_parameters(model)
        for name, loss in means.items():
            gradients = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
            exact = [torch.zeros_like(value, dtype=torch.float32) if each is None else each.float()
                     for value, each in zip(shared, gradients, strict=True)]
            before, total = self._gathered.get(name, (None, 0.0))
            summed = exact if before is None else [one + other for one, other in zip(before, exact, strict=True)]
            self._gathered[name] = (summed, total + loss.item())

    def settle(self, model: "torch.nn.Module", world: World) -> None:
        """With `gradient_norm`, move the heads' weights by what the whole batch gave; they lie in the model, so checkpoints hold them."""
        import torch

        if self.recipe.task_weighting != "gradient_norm":
            return
        order = list(self.heads)
        shared = shared_parameters(model)
        norms, losses, there = (torch.zeros(len(order)) for _ in range(3))
        for place, name in enumerate(order):
            known = name in self._gathered
            gradients, loss = self._gathered.get(name, ([torch.zeros_like(value, dtype=torch.float32) for value in shared], 0.0))
            world.add_up(gradients)
            norms[place] = torch.stack([each.square().sum() for each in gradients]).sum().sqrt().cpu()
            losses[place], there[place] = world.total(loss), world.total(float(known))
        places = [place for place in range(len(order)) if there[place]]
        with torch.no_grad():
            balance, first = model.task_balance, model.first_losses
            device = balance.device
            unseen = first[places] == 0
            first[places] = torch.where(unseen, losses[places].to(device), first[places])
            balance[places] = multitask.gradient_norm_step(balance[places], norms[places].to(device), losses[places].to(device),
                                                           first[places])

    def contrastive(self, embed: "Callable[[list[int]], torch.Tensor]", parts: list[list[int]], fits: bool,
                    examples: Sequence[Example], model: "torch.nn.Module", seed: int) -> float:
        """The batch's contrastive loss (and cross-entropy beside it, where the recipe gives the contrastive one a weight), there and back.

        Args:
            embed: gives embeddings of texts by their places: the examples' own first, then their further texts in order.
            parts: places of all texts, in parts that go through the model at once.
            fits: whether what all parts leave for the way back fits into memory together.
        """
        import torch

        order = [place for part in parts for place in part]

        def objective(embeddings: "torch.Tensor") -> "torch.Tensor":
            back = torch.empty(len(order), dtype=torch.int64, device=embeddings.device)
            back[torch.tensor(order, device=embeddings.device)] = torch.arange(len(order), device=embeddings.device)
            whole = embeddings[back]
            loss = self._contrastive(whole, examples, seed)
            if not self.recipe.contrastive_weight:
                return loss
            own = whole[: len(examples)]
            weights, sums = self.weights(examples), self.sums(model.from_embeddings(own), examples)
            plain = self.combined({name: value / weights[name] for name, value in sums.items()}, model, dict.fromkeys(sums, 1.0))
            return plain + self.recipe.contrastive_weight * loss

        if fits:
            loss = objective(torch.cat([embed(part) for part in parts]))
            loss.backward()
            return loss.item()
        return cached_gradients(embed, parts, objective).item()

    def _contrastive(self, embeddings: "torch.Tensor", examples: Sequence[Example], seed: int) -> "torch.Tensor":
        import torch

        own = embeddings[: len(examples)]
        if any(example.others for example in examples):
            return self._by_others(own, embeddings[len(examples) :], examples)
        if self.recipe.objective == "info_nce":
            raise LabError("objective 'info_nce' needs texts that belong together two by two; choose supervised_contrastive for labels")
        found = []
        for head in self.labelled:
            places = [place for place, example in enumerate(examples) if head.name in example.targets]
            labels = torch.tensor([examples[place].targets[head.name] for place in places], device=own.device)
            found.append(self._by_labels(own[places], labels, seed))
        if not found:
            raise LabError(f"objective {self.recipe.objective!r} needs labels, or texts that belong together")
        return torch.stack(found).sum()

    def _by_others(self, own: "torch.Tensor", others: "torch.Tensor", examples: Sequence[Example]) -> "torch.Tensor":
        """The loss of texts that bring their own positive, and maybe negatives; what is another's positive word for word is no negative."""
        import torch

        recipe, counts = self.recipe, {len(example.others) for example in examples}
        if len(counts) > 1:
            raise LabError(f"objective {recipe.objective!r}: some texts bring {min(counts)} others and some {max(counts)}; "
                           "all must bring as many")
        others = others.view(len(examples), counts.pop(), -1)
        if recipe.objective == "info_nce":
            seen: dict[tuple[int, ...], int] = {}
            groups = torch.tensor([seen.setdefault(example.others[0], len(seen)) for example in examples], device=own.device)
            negatives = others[:, 1:] if others.shape[1] > 1 else None
            return contrastive.info_nce(own, others[:, 0], negatives, temperature=recipe.temperature, both_directions=True,
                                        groups=groups).mean()
        if recipe.objective == "triplet":
            if others.shape[1] < 2:
                raise LabError("objective 'triplet' needs a negative beside each positive, or labels; choose info_nce")
            return contrastive.triplet(own, others[:, 0], others[:, 1], margin=recipe.margin).mean()
        score_of = lambda targets: next((targets[head.name] for head in self.labelled if head.name in targets), None)  # noqa: E731
        scores = [score_of(example.targets) for example in examples]
        if recipe.objective == "cosine_pairs" and None not in scores:
            return contrastive.cosine_pairs(own, others[:, 0], torch.tensor(scores, device=own.device)).mean()
        raise LabError(f"objective {recipe.objective!r} does not learn from texts with their positives; choose info_nce"
                       + (" or triplet" if others.shape[1] > 1 else ""))

    def _by_labels(self, embeddings: "torch.Tensor", labels: "torch.Tensor", seed: int) -> "torch.Tensor":
        recipe = self.recipe
        if recipe.objective == "supervised_contrastive":
            return contrastive.supervised_contrastive(embeddings, labels, temperature=recipe.temperature).mean()
        if recipe.objective == "triplet":
            return contrastive.batch_hard(embeddings, labels, margin=recipe.margin).mean()
        known = labels.tolist()
        if len(set(known)) < 2:
            return embeddings.sum() * 0.0
        pairs = pairing.label_pairs(known, _PAIRS_EACH * len(known), seed)
        same = embeddings.new_tensor(pairs.same)
        return contrastive.cosine_pairs(embeddings[pairs.first], embeddings[pairs.second], same).mean()

    def on(self, outputs: Outputs, examples: Sequence[Example]) -> float | None:
        """The plain mean loss of these outputs: what is reported as validation loss, heads added up; None where no head has outputs."""
        import torch

        weights = self.weights(examples)
        totals = dict.fromkeys(weights, 0.0)
        for place, example in enumerate(examples):
            given = {name: torch.from_numpy(outputs[name][place])[None] for name in self.heads}
            for name, value in self.sums(given, [example]).items():
                totals[name] += value.item()
        means = [totals[name] / weight for name, weight in weights.items() if weight]
        return sum(means) if means else None


def _taught(recipe: Recipe, head: Head, plain: Losses, scores: "torch.Tensor", examples: Sequence[Example]) -> Losses:
    """A head's losses with a teacher's part in them, see `teacher_heads`.

    Args:
        plain: the head's own losses.
        scores: its outputs, (texts, outputs) or (texts, tokens, outputs); what does not count is the lowest number (a span's padding).
        examples: each with `soft`.
    """
    import torch

    theirs = torch.zeros_like(scores, dtype=torch.float32)
    for own, example in zip(theirs, examples, strict=True):
        soft = torch.from_numpy(example.soft[head.name]).to(own)
        own[: len(soft)] = soft  # of a text, or of its tokens
    temperature = recipe.teacher_temperature
    if head.kind == "number":
        drawn = cross_entropy.squared_error(scores[..., 0], theirs[..., 0]).values
    elif head.kind == "labels":  # there or not: two scores, of which one is 0
        either = lambda value: torch.stack([torch.zeros_like(value), value], -1)  # noqa: E731
        drawn = distillation(either(scores), either(theirs), temperature=temperature).values
    elif head.kind == "span":
        outside = scores == torch.finfo(torch.float32).min
        theirs = theirs.masked_fill(outside, torch.finfo(torch.float32).min)
        drawn = distillation(scores.transpose(1, 2), theirs.transpose(1, 2), temperature=temperature).values
    else:
        drawn = distillation(scores, theirs, temperature=temperature).values
    drawn = drawn.masked_fill(plain.weights == 0, 0.0)
    return Losses((1 - recipe.teacher_weight) * plain.values + recipe.teacher_weight * drawn, plain.weights)


def _within(scores: "torch.Tensor", examples: Sequence[Example]) -> "torch.Tensor":
    """A span's scores, float32 (texts, tokens, 2), with the lowest number on what is padding."""
    import torch

    lengths = torch.tensor([len(example.tokens) for example in examples], device=scores.device)
    outside = torch.arange(scores.shape[1], device=scores.device) >= lengths[:, None]
    return scores.float().masked_fill(outside[..., None], torch.finfo(torch.float32).min)


def shared_parameters(model: "torch.nn.Module") -> "list[torch.nn.Parameter]":
    """What learns in the highest layer of the trunk that learns: GradNorm's last shared layer."""
    for layer in reversed(list(methods.layers(model.trunk))):
        found = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        if found:
            return found
    raise LabError("recipe: task_weighting = \"gradient_norm\" needs a trunk that learns; choose another method than \"head\"")


def batches(recipe: Recipe, data: Prepared, epoch: int) -> list[list[int]]:
    """An epoch's batches for contrastive objectives: no text is alone with its label. Texts that bring their positives need no care."""
    labelled = [head for head in data.heads if head.kind in ("label", "none")]
    seed = random.Random(f"{recipe.seed}:{epoch}").getrandbits(32)
    if not labelled or any(example.others for example in data.train):
        from labkit.training.examples import batches as plain

        return plain(data.train, recipe.batch_size, recipe.seed, epoch)
    name = labelled[0].name
    return pairing.label_batches([example.targets.get(name, -1) for example in data.train], recipe.batch_size, seed)
