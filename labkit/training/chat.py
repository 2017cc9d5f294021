"""A decoder that learns to write answers, with the frozen layers below the lowest that learns run once a record (`split`,
`prefix_store`).

The loss is taken over answer tokens only; a batch is one sequence without padding (`shared_prefix`). This is the learner of every method
that leaves the lower layers alone; `chat_plain` takes the others.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import BaseModel
from labkit.training import chat_data, masters, methods, noise, views
from labkit.training import teacher as teachers
from labkit.training.chat_data import ChatData
from labkit.training.examples import Encoded, batches, by_length, micro_batches
from labkit.training.learner import Passed
from labkit.training.objective import token_losses
from labkit.training.precision import best_precision
from labkit.training.prefix_store import PrefixStore, open_or_build
from labkit.training.recipe import Recipe
from labkit.training.shared_prefix import Rows
from labkit.training.split import SplitModel, check_exact, split
from labkit.training.views import View
from labkit.training.world import World

if TYPE_CHECKING:
    import torch

_HELD_OUT_BATCH = 64


class CachedChat:
    """See the module's docstring; `learner.Learner` says what each method is for.

    Raises:
        LabError: the base cannot be cut exactly (see `split`), or has nothing that the method could adapt.
    """

    def __init__(self, recipe: Recipe, base: BaseModel, data: ChatData) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.recipe, self.base, self.data, self.micro_tokens = recipe, base, data, recipe.micro_tokens
        precision = best_precision(recipe.precision)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=self.dtype).to(self.device)
        count = model.config.num_hidden_layers
        cut = max(0, count - recipe.layers) if recipe.layers else 0
        parts = split(model, cut)
        first = data.train.examples[0]
        check_exact(model, parts, torch.tensor(first.tokens, device=self.device), len(data.train.prefixes[first.group]))
        self.model = methods.apply(model, recipe, cut)
        self.parts: SplitModel = split(methods.inner(self.model), cut)
        self.masters = masters.of(self.model)
        self.model.train()
        if self.parts.lower is not None:
            self.parts.lower.eval()
        self.teacher = teachers.load(recipe, base, data.tokenizer, self.dtype, self.device)
        self.train_store: PrefixStore | None = None
        self.held_out_store: PrefixStore | None = None
        self._noisy_step: int | None = None  # the step whose noise what enters gets; None: none

    def prepare(self, owner: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Run the frozen layers over all records, or open what an earlier training of `owner` (the run's key) kept; let a teacher see
        the records."""
        open_store = lambda name, data, progress: open_or_build(  # noqa: E731
            name, self.parts, data, self.base.sha256, str(self.dtype), progress) if self.parts.cut else None
        self.model.eval()
        self.train_store = open_store(owner, self.data.train, progress)
        self.held_out_store = open_store(f"{owner}:validation", self.data.held_out, None) if self.data.held_out else None
        self.model.train()
        if self.teacher:
            self.teacher.prepare(self.data.train, progress)

    def plan(self) -> list[tuple[int, list[int]]]:
        recipe = self.recipe
        return [(epoch, rows) for epoch in range(recipe.epochs)
                for rows in batches(self.data.train.examples, recipe.batch_size, recipe.seed, epoch)]

    def groups(self) -> list[dict[str, Any]]:
        return methods.groups(self.masters, self.recipe)

    def step(self, rows: list[int], index: int, world: World) -> Passed:
        import torch

        train = self.data.train
        seen = {row: views.drawn(train.examples[row], self.recipe, index, row) for row in rows}
        weight, plain = sum(view.weight for view in seen.values()), sum(sum(view.plain) for view in seen.values())
        total = 0.0
        self._noisy_step = index if self.recipe.neftune else None
        for part in micro_batches(train, world.share(rows), self.micro_tokens):
            losses, told = teachers.losses(self.teacher, self.parts.head, *self._predicting(train, self.train_store, part, seen),
                                           train, part, seen)
            count = lambda name: torch.tensor([each for row in part for each in getattr(seen[row], name)], device=self.device)  # noqa: B023, E731
            (losses @ count("weights") / weight).backward()
            total += (told @ count("plain")).item() / plain
        self._noisy_step = None
        masters.pull_gradients(self.model, self.masters)
        return Passed(world.total(total), sum(len(view.kept) for view in seen.values()))

    def drop_gradients(self) -> None:
        self._noisy_step = None
        self.model.zero_grad(set_to_none=True)
        for value in self.masters.values():
            value.grad = None

    def push(self) -> None:
        masters.push(self.model, self.masters)

    def measure(self) -> dict[str, float]:
        return {"validation_loss": self.validation_loss()} if self.data.held_out else {}

    def answers(self) -> list[dict[str, str]]:
        return chat_data.answers(self.model, self.base, self.data, self.recipe.answers)

    def name_rows(self, rows: list[int]) -> list[str]:
        return [self.data.train_ids[row] for row in rows]

    def tokens_of(self, rows: list[int]) -> int:
        return sum(len(self.data.train.examples[row].tokens) for row in rows)

    def save(self, folder: Path) -> list[str]:
        return methods.save(self.model, self.masters, self.base, folder)

    def _predicting(self, data: Encoded, store: PrefixStore | None, rows: list[int],
                    seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
        """The last state before each token that the rows' views predict, (tokens, hidden), and these tokens, int64 (tokens,); the rows of
        a group stand together."""
        import torch

        groups = [self._entered(data, store, list(own), group, seen)
                  for group, own in itertools.groupby(rows, key=lambda row: data.examples[row].group)]
        answers = [data.examples[row].tokens[place] for row in rows for place in seen[row].predicted]
        return torch.cat(self.parts.finish(groups)), torch.tensor(answers, device=self.device)

    def _entered(self, data: Encoded, store: PrefixStore | None, rows: list[int], group: int, seen: dict[int, View]) -> Rows:
        """What enters the upper layers for rows of one group: kept, or the embeddings where all layers are adapted. Wanted is what
        stands before each predicted token, and so predicts it."""
        import torch

        lengths = [len(data.own(row)) for row in rows]
        start, prefix = data.prefixes[group], None
        if store is not None:
            entered = store.rows(rows).to(self.device)
            if start:
                prefix = store.prefix(group).to(self.device)
        else:
            tokens = [token for row in rows for token in data.own(row)]
            entered = self.parts.enter(torch.tensor(tokens, device=self.device), lengths)
            if start:
                prefix = self.parts.enter(torch.tensor(start, device=self.device), [len(start)])
        taken, positions, wanted, own_lengths = [], [], [], []
        for row, first in zip(rows, itertools.accumulate(lengths, initial=0), strict=False):
            kept = [place for place in seen[row].kept if place >= len(start)]
            end = len(taken) + len(kept)  # the answer stands last
            wanted += range(end - len(seen[row].predicted) - 1, end - 1)
            taken += [first + place - len(start) for place in kept]
            positions += kept
            own_lengths.append(len(kept))
        if len(taken) < len(entered):
            entered = entered[torch.tensor(taken, device=self.device)]
        if self._noisy_step is not None:
            entered = noise.added(entered, own_lengths, rows, strength=self.recipe.neftune, seed=self.recipe.seed, step=self._noisy_step)
        return Rows(entered, own_lengths, prefix, wanted, torch.tensor(positions, device=self.device))

    def validation_loss(self) -> float:
        """Mean cross-entropy over the answer tokens of the validation records, nats."""
        import torch

        self.model.eval()
        total = 0.0
        with torch.no_grad():
            for rows in by_length(self.data.held_out.examples, _HELD_OUT_BATCH):
                for part in micro_batches(self.data.held_out, rows, self.micro_tokens):
                    seen = {row: views.whole(self.data.held_out.examples[row]) for row in part}
                    states, answers = self._predicting(self.data.held_out, self.held_out_store, part, seen)
                    total += token_losses(self.parts.head, states, answers).sum().item()
        self.model.train()
        return total / sum(example.answer_tokens for example in self.data.held_out.examples)
