"""An encoder that learns: heads on a shared trunk, with cross-entropy, contrastive objectives, or both.

Every loss is a sum over the whole batch divided by the whole batch's weight, so that padding, micro-batches and processes do not change it.
Contrastive objectives look at all embeddings of a batch at once; where its parts do not fit into memory together, their gradients are
cached (`objectives.caching.cached_gradients`), which is exact too.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training import encoder_store, fused, heads, masters, methods, precision, teacher_heads
from labkit.training.examples import batches
from labkit.training.kept import Kept
from labkit.training.learner import Passed
from labkit.training.noise import Noise, embedding_of
from labkit.training.objectives import multitask
from labkit.training.recipe import Recipe
from labkit.training.tasks import losses, passes
from labkit.training.tasks.task import Example, Head, Outputs, Prepared
from labkit.training.tasks.texts import tokenizer_of
from labkit.training.world import World

if TYPE_CHECKING:
    import torch

_SHOWN = 4  # answers that a person is shown at a measurement
_FURTHER = 10**9  # what tells a row's further texts from other rows, for the noise that each gets


class Encoder:
    """See the module's docstring; `learner.Learner` says what each method is for.

    Raises:
        LabError: the method or the objective does not fit an encoder or its data.
    """

    def __init__(self, recipe: Recipe, base: BaseModel, data: Prepared) -> None:

        self.recipe, self.base, self.data, self.micro_tokens = recipe, base, data, recipe.micro_tokens
        self.tokenizer = tokenizer_of(base)
        self.dtype, self.device = precision.dtype_of(recipe.precision), precision.device()
        trunk = heads.load_trunk(base.folder, self.dtype)
        _set_dropout(trunk, recipe.dropout)
        trunk = methods.apply(trunk, recipe, methods.first_layer(recipe, len(methods.layers(trunk))))
        alone = recipe.objective != "cross_entropy" and not recipe.contrastive_weight
        self.fits_head = alone and any(head.outputs for head in data.heads)
        self.model = heads.make(trunk, data.heads, recipe.pooling, recipe.dropout, self.fits_head, recipe.task_weighting).to(self.device)
        if self.fits_head:
            self.model.heads.requires_grad_(False)
            if any(head.kind != "label" for head in data.heads):
                raise LabError(f"objective {recipe.objective!r} alone needs labels; give it a contrastive_weight beside cross-entropy")
        self.masters = masters.of(self.model)
        if not self.masters:
            raise LabError("recipe: nothing learns; method \"head\" needs heads that cross_entropy teaches")
        self.losses = losses.HeadLosses(recipe, data)
        if recipe.task_weighting == "gradient_norm":
            losses.shared_parameters(self.model)
        if recipe.token_drop and any(head.by_token for head in data.heads):
            raise LabError(f"recipe: token_drop = {recipe.token_drop:g} would leave out places, which task {recipe.task!r} is about; "
                           "set it to 0")
        self.special = frozenset(self.tokenizer.all_special_ids)
        self.noise = Noise(recipe.neftune, recipe.seed)
        self._taught = data.train  # with what a teacher gives, after `prepare`
        self._store: Kept | None = None
        self._held_out_store: Kept | None = None
        self._places: dict[int, int] = {}  # where a text stands among those that are kept, by its name
        self.model.train()
        self.teacher = teacher_heads.load(recipe, base, data.heads, self.tokenizer)

    def prepare(self, owner: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Let a teacher see all texts, and run the frozen layers over them, or open what an earlier training of `owner` (the run's key)
        kept; nothing is kept where the lowest layers learn, or where what enters them differs from step to step."""
        if self.teacher:
            self._taught = self.teacher.taught(self.data.train)
        trunk = methods.inner(self.model.trunk)
        self.model.cut = encoder_store.cut_of(self.recipe, trunk) if self.model.packs else 0
        if not self.model.cut:
            return
        texts = {row: (example.tokens, example.segments) for row, example in enumerate(self.data.train)}
        texts |= {_further(row, number): (tokens, (0,) * len(tokens)) for row, example in enumerate(self.data.train)
                  for number, tokens in enumerate(example.others, 1)}
        self._places = {name: place for place, name in enumerate(texts)}
        held_out = [(example.tokens, example.segments) for example in self.data.held_out]
        self.model.eval()
        kept = lambda name, texts, progress: encoder_store.open_or_build(  # noqa: E731
            name, trunk, self.model.cut, texts, self.base.sha256, self.dtype, progress)
        self._store = kept(owner, list(texts.values()), progress)
        self._held_out_store = kept(f"{owner}:validation", held_out, None) if held_out else None
        self.model.train()

    def described(self) -> dict[str, Any]:
        return {"cut_off": self.data.cut}

    def plan(self) -> list[tuple[int, list[int]]]:
        recipe = self.recipe
        if recipe.objective != "cross_entropy":
            return [(epoch, rows) for epoch in range(recipe.epochs) for rows in losses.batches(recipe, self.data, epoch)]
        if recipe.task_sampling != "none":
            return [(epoch, rows) for epoch, rows, _ in self._sampled]
        return [(epoch, rows) for epoch in range(recipe.epochs) for rows in batches(self.data.train, recipe.batch_size, recipe.seed, epoch)]

    @functools.cached_property
    def _sampled(self) -> list[tuple[int, list[int], str]]:
        """All steps where each teaches one head: as many as without sampling, each with the head's next batch (its records come anew, in
        another order, when all have been)."""
        recipe, data = self.recipe, self.data
        rows_of = {head.name: [row for row, example in enumerate(data.train) if head.name in example.targets] for head in data.heads}
        shares = multitask.task_shares([len(rows) for rows in rows_of.values()], recipe.task_sampling, recipe.task_temperature)
        a_round = -(-len(data.train) // recipe.batch_size)
        drawn = multitask.sampled_tasks(shares, recipe.epochs * a_round, recipe.seed)
        coming = {name: self._endless(rows) for name, rows in rows_of.items() if rows}
        names = list(rows_of)
        return [(step // a_round, next(coming[names[task]]), names[task]) for step, task in enumerate(drawn)]

    def _endless(self, rows: list[int]) -> Iterator[list[int]]:
        own = [self.data.train[row] for row in rows]
        for turn in itertools.count():
            for places in batches(own, self.recipe.batch_size, self.recipe.seed, turn):
                yield [rows[place] for place in places]

    def groups(self) -> list[dict[str, Any]]:
        return methods.groups(self.masters, self.recipe)

    def step(self, rows: list[int], index: int, world: World) -> Passed:
        self.losses.begin()
        seen = [self._seen(row, index) for row in rows]
        tokens = sum(len(example.tokens) + sum(map(len, example.others)) for example in seen)
        with self.noise.on(embedding_of(methods.inner(self.model.trunk))):
            if self.recipe.objective == "cross_entropy":
                loss, more = self._by_part(rows, seen, index, world)
            elif world.size > 1:
                raise LabError(f"objective {self.recipe.objective!r} sees all texts of a batch at once and runs in one process: --nproc 1")
            else:
                loss, more = self._together(rows, seen, index), {}
        self.losses.settle(self.model, world)
        masters.pull_gradients(self.model, self.masters)
        return Passed(world.total(loss), tokens, more)

    def _seen(self, row: int, index: int) -> Example:
        """What step `index` sees of a training text: `token_drop` of its tokens are left out, drawn anew each time, but never all; with
        `task_sampling` the target of one head."""
        example = self._taught[row]
        if self.recipe.task_sampling != "none":
            head = self._sampled[index % len(self._sampled)][2]  # a sweep over rates begins anew
            example = dataclasses.replace(example, targets={head: example.targets[head]})
        if not self.recipe.token_drop:
            return example
        draw = random.Random(f"{self.recipe.seed}:{index}:{row}")
        kept = self._kept(example.tokens, draw)
        pick = lambda values: tuple(values[place] for place in kept)  # noqa: E731
        others = tuple(tuple(tokens[place] for place in self._kept(tokens, draw)) for tokens in example.others)
        return dataclasses.replace(example, tokens=pick(example.tokens), segments=pick(example.segments), others=others)

    def _kept(self, tokens: tuple[int, ...], draw: random.Random) -> list[int]:
        kept = [place for place, token in enumerate(tokens) if token in self.special or draw.random() >= self.recipe.token_drop]
        return kept if any(tokens[place] not in self.special for place in kept) else list(range(len(tokens)))

    def _by_part(self, rows: list[int], examples: list[Example], index: int, world: World) -> tuple[float, dict[str, Any]]:
        weights = self.losses.weights(examples)
        by_head = dict.fromkeys(weights, 0.0)
        own = world.share(list(range(len(rows))))
        for places in passes.parts([len(examples[place].tokens) for place in own], self.micro_tokens, self.model.packs):
            places = [own[place] for place in places]
            part = [examples[place] for place in places]
            coded = [(example.tokens, example.segments) for example in part]
            outputs = self.model(self._batch(coded, [rows[place] for place in places], index))
            sums = self.losses.sums(outputs, part)
            told = self.losses.sums(outputs, part, taught=False) if self.teacher else sums
            means = {name: value / weights[name] for name, value in sums.items()}
            own_weights = self.losses.weights(part)
            self.losses.combined(means, self.model, {name: own_weights[name] / weights[name] for name in means}).backward()
            for name, value in told.items():
                by_head[name] += value.item() / weights[name]
        several = {"losses": {name: round(world.total(value), 5) for name, value in by_head.items()}} if len(by_head) > 1 else {}
        return sum(by_head.values()), several

    def _together(self, rows: list[int], examples: list[Example], index: int) -> float:
        texts = [(example.tokens, example.segments) for example in examples]
        texts += [(tokens, (0,) * len(tokens)) for example in examples for tokens in example.others]
        names = rows + [_further(row, number) for row, example in zip(rows, examples, strict=True)
                        for number in range(1, len(example.others) + 1)]
        lengths = [len(tokens) for tokens, _ in texts]
        parts = passes.parts(lengths, self.micro_tokens, self.model.packs)
        fits = passes.through(lengths, parts, self.model.packs) <= self.micro_tokens
        pick = lambda values, places: [values[place] for place in places]  # noqa: E731
        embed = lambda places: self.model.embed(self._batch(pick(texts, places), pick(names, places), index))  # noqa: E731
        return self.losses.contrastive(embed, parts, fits, examples, self.model, self.recipe.seed * 1_000_003 + index)

    def _batch(self, texts: "list[tuple[tuple[int, ...], tuple[int, ...]]]", names: list[int], index: int) -> "dict[str, torch.Tensor]":
        if self._store:
            return self._entering(self._store, [self._places[name] for name in names], [len(tokens) for tokens, _ in texts])
        batch = passes.collate(texts, self.device)
        self.noise.at(index, names, batch["attention_mask"])
        return batch

    def _entering(self, kept: Kept, places: list[int], lengths: list[int]) -> "dict[str, torch.Tensor]":
        return {"entering": kept.rows(places).to(self.device), "attention_mask": passes.mask_of(lengths, self.device)}

    def _outputs(self, examples: list[Example], kept: Kept | None) -> Outputs:
        """What the model says of all these examples, from what is kept of them where that is."""
        batch_of = lambda places: self._entering(kept, places, [len(examples[place].tokens) for place in places])  # noqa: E731
        return passes.run(self.model, examples, self.device, min(passes.PASS_TOKENS, 2 * self.micro_tokens),
                          batch_of=batch_of if kept else None)

    def drop_gradients(self) -> None:
        masters.drop_gradients(self.model, self.masters)

    def push(self) -> None:
        masters.push(self.model, self.masters)

    def measure(self) -> dict[str, float]:
        if not self.data.held_out:
            return {}
        if self.fits_head:
            self._fit_heads()
        outputs = self._outputs(self.data.held_out, self._held_out_store)
        self._last = outputs
        found = self.data.score(self.data.held_out, outputs)
        loss = self.losses.on(outputs, self.data.held_out)
        return {**({"validation_loss": loss} if loss is not None else {}), **found}

    def answers(self) -> list[dict[str, str]]:
        if not self.data.held_out or self.data.show is None:
            return []
        return [self.data.show(self.data.held_out[place], {name: values[place] for name, values in self._last.items()})
                for place in range(min(_SHOWN, len(self.data.held_out)))]

    def name_rows(self, rows: list[int]) -> list[str]:
        return [self.data.ids[self.data.train[row].row] for row in rows]

    def tokens_of(self, rows: list[int]) -> int:
        return sum(len(self.data.train[row].tokens) for row in rows)

    def save(self, folder: Path) -> list[str]:
        if self.fits_head:
            self._fit_heads()
        inner = {name.removeprefix("trunk."): value for name, value in self.masters.items() if name.startswith("trunk.")}
        written = [] if self.recipe.method == "head" else methods.save(self.model.trunk, inner, self.base, folder, self.tokenizer)
        return written + heads.save(self.model, folder, self.masters)

    def _fit_heads(self) -> None:
        """Logistic regression on the training texts' embeddings, scaled to length 1, becomes the heads (as in SetFit, Tunstall et al. 2022,
        section 3.2, https://arxiv.org/abs/2209.11055)."""
        import numpy as np
        import torch
        from sklearn.linear_model import LogisticRegression

        outputs = self._outputs(self.data.train, self._store)
        embeddings = np.stack(outputs[""])
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        for head in self.data.heads:
            known = [place for place, example in enumerate(self.data.train) if head.name in example.targets]
            truth = np.array([self.data.train[place].targets[head.name] for place in known])
            fitted = LogisticRegression(C=self.recipe.head_strength, max_iter=2000).fit(embeddings[known], truth)
            with torch.no_grad():
                _put(self.model.heads[head.name], head, fitted)


def _further(row: int, number: int) -> int:
    """The name of a row's further text (from 1)."""
    return row + _FURTHER * number


def _put(linear: "torch.nn.Linear", head: Head, fitted) -> None:
    """A logistic regression's coefficients as a linear head; a label that no text has is never chosen."""
    import numpy as np

    weight = np.zeros((head.outputs, fitted.coef_.shape[1]), dtype=np.float32)
    bias = np.full(head.outputs, -1e4, dtype=np.float32)
    if len(fitted.classes_) == 2:
        half, shift = fitted.coef_[0] / 2, fitted.intercept_[0] / 2
        weight[fitted.classes_], bias[fitted.classes_] = [-half, half], [-shift, shift]
    else:
        weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
    linear.weight.copy_(linear.weight.new_tensor(weight))
    linear.bias.copy_(linear.bias.new_tensor(bias))


def _set_dropout(trunk: "torch.nn.Module", probability: float) -> None:
    """One dropout for all of the trunk, in place of what the base was trained with."""
    import torch

    for module in trunk.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
            module.forward = functools.partial(_drop, module)
        for name in ("dropout_prob", "attention_dropout"):  # modules that call the function of their own accord
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, probability)


def _drop(module: "torch.nn.Module", states: "torch.Tensor") -> "torch.Tensor":
    return fused.dropout(states, module.p) if module.training else states
