"""What all chat models have in common as they learn: batches of records, the loss over answer tokens, what is measured and shown.

How a batch goes through the model is the business of `chat` and `chat_plain`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import BaseModel
from labkit.training import chat_data, masters, methods, views
from labkit.training import teacher as teachers
from labkit.training.chat_data import ChatData
from labkit.training.examples import Encoded, batches, by_length
from labkit.training.learner import Passed
from labkit.training.masters import Masters
from labkit.training.objective import token_losses
from labkit.training.recipe import Recipe
from labkit.training.views import View
from labkit.training.world import World

if TYPE_CHECKING:
    import torch


class Chat:
    """See the module's docstring; `learner.Learner` says what each public method is for.

    Attributes:
        model: the whole model, with PEFT around it where the method adds something.
        head: maps last hidden states to the vocabulary's scores.
        held_out_batch: records that are measured in one batch.
        notes: what a person should know before training starts.
    """

    recipe: Recipe
    base: BaseModel
    data: ChatData
    micro_tokens: int
    model: "torch.nn.Module"
    head: "torch.nn.Module"
    masters: Masters
    teacher: teachers.Teacher | None
    device: str
    held_out_batch: int
    notes: Sequence[str] = ()

    def _parts(self, data: Encoded, rows: list[int]) -> list[list[int]]:
        """The rows in parts that go through the model at once."""
        raise NotImplementedError

    def _shares(self, rows: list[int], world: World) -> list[tuple[list[int], float]]:
        """This process's parts of a batch, each with how much it counts."""
        return [(part, 1.0) for part in self._parts(self.data.train, world.share(rows))]

    def _predicting(self, data: Encoded, rows: list[int], seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
        """The last state before each token that the rows' views predict, (tokens, hidden), and these tokens, int64 (tokens,)."""
        raise NotImplementedError

    def _noisy(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Within the block the recipe's noise of step `index` is on what enters the model."""
        raise NotImplementedError

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
        with self._noisy(index):
            for part, counts in self._shares(rows, world):
                losses, told = teachers.losses(self.teacher, self.head, *self._predicting(train, part, seen), train, part, seen)
                count = lambda name: torch.tensor([each for row in part for each in getattr(seen[row], name)], device=self.device)  # noqa: B023, E731
                (counts * (losses @ count("weights")) / weight).backward()
                total += counts * (told @ count("plain")).item() / plain
        masters.pull_gradients(self.model, self.masters)
        return Passed(world.total(total), sum(len(view.kept) for view in seen.values()))

    def drop_gradients(self) -> None:
        masters.drop_gradients(self.model, self.masters)

    def push(self) -> None:
        masters.push(self.model, self.masters)

    def measure(self) -> dict[str, float]:
        return {"validation_loss": self.validation_loss()} if self.data.held_out else {}

    def validation_loss(self) -> float:
        """Mean cross-entropy over the answer tokens of the validation records, nats."""
        held_out = self.data.held_out
        with self._measuring():
            total = sum(token_losses(self.head, *self._predicting(
                held_out, part, {row: views.whole(held_out.examples[row]) for row in part})).sum().item()
                for rows in by_length(held_out.examples, self.held_out_batch) for part in self._parts(held_out, rows))
        return total / sum(example.answer_tokens for example in held_out.examples)

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        import torch

        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()

    def answers(self) -> list[dict[str, str]]:
        return chat_data.answers(self.model, self.base, self.data, self.recipe.answers)

    def name_rows(self, rows: list[int]) -> list[str]:
        return [self.data.train_ids[row] for row in rows]

    def tokens_of(self, rows: list[int]) -> int:
        return sum(len(self.data.train.examples[row].tokens) for row in rows)

    def save(self, folder: Path) -> list[str]:
        return methods.save(self.model, self.masters, self.base, folder, self.data.tokenizer)
