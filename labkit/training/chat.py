"""A decoder that learns to write answers, with the frozen layers below the lowest that learns run once a record (`split`,
`prefix_store`).

The loss is taken over answer tokens only; a batch is one sequence without padding (`shared_prefix`). This is the learner of every method
that leaves the lower layers alone; `chat_plain` takes the others.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from labkit.models import BaseModel
from labkit.training import masters, methods, noise, precision, quantised
from labkit.training import teacher as teachers
from labkit.training.chat_data import ChatData
from labkit.training.chat_learner import Chat
from labkit.training.examples import Encoded, micro_batches
from labkit.training.kept import Kept
from labkit.training.prefix_store import open_or_build
from labkit.training.recipe import Recipe
from labkit.training.shared_prefix import Rows
from labkit.training.split import NotSplit, SplitModel, check_exact, scores, split
from labkit.training.views import View

if TYPE_CHECKING:
    import torch


class CachedChat(Chat):
    """See the module's docstring.

    Raises:
        NotSplit: the base cannot be cut exactly (see `split`).
        LabError: the base has nothing that the method could adapt, or with the method put in it computes something else.
    """

    held_out_batch = 64

    def __init__(self, recipe: Recipe, base: BaseModel, data: ChatData) -> None:
        import torch

        self.recipe, self.base, self.data, self.micro_tokens = recipe, base, data, recipe.micro_tokens
        self.dtype, self.device = precision.dtype_of(recipe.precision), precision.device()
        model = quantised.decoder(recipe, base, self.dtype, self.device)
        cut = methods.first_layer(recipe, model.config.num_hidden_layers)
        parts = split(model, cut)
        first = data.train.examples[0]
        record = torch.tensor(first.tokens, device=self.device), len(data.train.prefixes[first.group])
        wanted = scores(model, *record)
        check_exact(model, parts, wanted, *record, refuses=NotSplit)
        self.model = methods.apply(model, recipe, cut)
        self.parts: SplitModel = split(methods.inner(self.model), cut)
        check_exact(model, self.parts, wanted, *record)  # what a method adds begins as nothing
        self.head = self.parts.head
        self.masters = masters.of(self.model)
        self.model.train()
        if self.parts.lower is not None:
            self.parts.lower.eval()
        self.teacher = teachers.load(recipe, base, data.tokenizer, self.dtype, self.device)
        self.train_store: Kept | None = None
        self.held_out_store: Kept | None = None
        self._noisy_step: int | None = None  # the step whose noise what enters gets; None: none

    def prepare(self, owner: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Run the frozen layers over all records, or open what an earlier training of `owner` (the run's key) kept; let a teacher see
        the records."""
        open_store = lambda name, data, progress: open_or_build(  # noqa: E731
            name, self.parts, data, self.base.sha256, quantised.form(self.recipe, self.dtype), progress) if self.parts.cut else None
        self.model.eval()
        self.train_store = open_store(owner, self.data.train, progress)
        self.held_out_store = open_store(f"{owner}:validation", self.data.held_out, None) if self.data.held_out else None
        self.model.train()
        if self.teacher:
            self.teacher.prepare(self.data.train, progress)

    @contextlib.contextmanager
    def _noisy(self, index: int) -> Iterator[None]:
        self._noisy_step = index if self.recipe.neftune else None
        try:
            yield
        finally:
            self._noisy_step = None

    def _parts(self, data: Encoded, rows: list[int]) -> list[list[int]]:
        return micro_batches(data, rows, self.micro_tokens)

    def _predicting(self, data: Encoded, rows: list[int], seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
        import torch

        store = self.train_store if data is self.data.train else self.held_out_store
        groups = [self._entered(data, store, list(own), group, seen)
                  for group, own in itertools.groupby(rows, key=lambda row: data.examples[row].group)]
        answers = [data.examples[row].tokens[place] for row in rows for place in seen[row].predicted]
        return torch.cat(self.parts.finish(groups)), torch.tensor(answers, device=self.device)

    def _entered(self, data: Encoded, store: Kept | None, rows: list[int], group: int, seen: dict[int, View]) -> Rows:
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
