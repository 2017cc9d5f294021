"""A decoder that learns to write answers, run whole at every step: for the methods that reach below the top layers or before the text
(`full`, `prefix`, `prompt`), and for models whose layers cannot be cut.

Batches are padded, of similar length; scores over the vocabulary are made for answer tokens only. The same records, views and weights as
in `chat`, so that both give the same loss. Several processes may divide the layers among them (`sharding`).
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import BaseModel
from labkit.training import masters, methods, noise, precision, quantised, sharding
from labkit.training import teacher as teachers
from labkit.training.chat_data import ChatData
from labkit.training.chat_learner import Chat
from labkit.training.examples import Encoded
from labkit.training.recipe import Recipe
from labkit.training.tasks import passes
from labkit.training.views import View
from labkit.training.world import World, joined

if TYPE_CHECKING:
    import torch


class PlainChat(Chat):
    """See the module's docstring."""

    held_out_batch = 32

    def __init__(self, recipe: Recipe, base: BaseModel, data: ChatData) -> None:
        self.recipe, self.base, self.data, self.micro_tokens = recipe, base, data, recipe.micro_tokens
        self.dtype, self.device = precision.dtype_of(recipe.precision), precision.device()
        self.world = joined() if recipe.shard else World()
        divided = self.world.size > 1
        model = quantised.decoder(recipe, base, self.dtype, "cpu" if divided else self.device)  # whole, it may not fit a GPU
        self.model = methods.apply(model, recipe, methods.first_layer(recipe, model.config.num_hidden_layers))
        if divided:
            sharding.shard(methods.layers(self.model), self.world)
            self.model.to(self.device)
        self.masters = masters.of(self.model)
        self.model.train()
        self.head = methods.inner(self.model).get_output_embeddings()
        self._noise, self._noise_step = noise.Noise(recipe.neftune, recipe.seed), 0
        self.teacher = teachers.load(recipe, base, data.tokenizer, self.dtype, self.device)

    def prepare(self, owner: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Let a teacher see the records; nothing else is kept between steps."""
        if self.teacher:
            self.teacher.prepare(self.data.train, progress)

    def groups(self) -> list[dict[str, Any]]:
        return sharding.by_kind(super().groups())

    def save(self, folder: Path) -> list[str]:
        if self.world.size == 1:
            return super().save(folder)
        first = self.world.is_first
        whole = sharding.gathered(self.model.state_dict(), keep=first) if self.recipe.method not in methods.ADDED else None
        learned = sharding.gathered(self.masters, keep=first)
        return methods.save(self.model, learned, self.base, folder, self.data.tokenizer, whole) if first else []

    def _shares(self, rows: list[int], world: World) -> list[tuple[list[int], float]]:
        if self.world.size == 1:
            return super()._shares(rows, world)
        of = lambda rank: self._parts(self.data.train, World(rank, world.size).share(rows))  # noqa: E731
        return sharding.evenly([of(rank) for rank in range(world.size)], world.rank)

    @contextlib.contextmanager
    def _noisy(self, index: int) -> Iterator[None]:
        self._noise_step = index
        with self._noise.on(noise.embedding_of(methods.inner(self.model))):
            yield

    def _parts(self, data: Encoded, rows: list[int]) -> list[list[int]]:
        lengths = [len(data.examples[row].tokens) for row in rows]
        return [[rows[place] for place in places] for places in passes.parts(lengths, self.micro_tokens)]

    def _predicting(self, data: Encoded, rows: list[int], seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
        import torch

        kept = [seen[row].kept for row in rows]
        longest = max(len(places) for places in kept)
        tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
        positions, mask = torch.zeros_like(tokens), torch.zeros_like(tokens)
        wanted, answers = [], []
        for number, (row, places) in enumerate(zip(rows, kept, strict=True)):
            example, predicted = data.examples[row], seen[row].predicted
            tokens[number, : len(places)] = torch.tensor([example.tokens[place] for place in places])
            positions[number, : len(places)] = torch.tensor(places)
            mask[number, : len(places)] = 1
            wanted += [number * longest + place for place in range(len(places) - len(predicted) - 1, len(places) - 1)]
            answers += [example.tokens[place] for place in predicted]
        self._noise.at(self._noise_step, rows, mask)
        states = self._states(tokens.to(self.device), mask.to(self.device), positions.to(self.device))
        chosen = states.reshape(-1, states.shape[-1])[torch.tensor(wanted, device=self.device)]
        return chosen, torch.tensor(answers, device=self.device)

    def _states(self, tokens: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor") -> "torch.Tensor":
        """The last hidden states of the text's tokens, (rows, tokens, hidden)."""
        import torch

        if self.recipe.method not in ("prefix", "prompt"):
            decoder = methods.inner(self.model).get_decoder()
            return decoder(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        rows, virtual = len(tokens), self.recipe.virtual_tokens
        mask = torch.cat([mask.new_ones(rows, virtual), mask], 1)
        learned = self.model.get_prompt(rows)
        plain = methods.inner(self.model)
        if self.recipe.method == "prefix":
            return plain.get_decoder()(input_ids=tokens, attention_mask=mask, position_ids=positions + virtual, past_key_values=learned,
                                       use_cache=True).last_hidden_state
        embedded = torch.cat([learned.to(self.dtype), plain.get_input_embeddings()(tokens)], 1)
        before = torch.arange(virtual, device=tokens.device).expand(rows, -1)
        states = plain.get_decoder()(inputs_embeds=embedded, attention_mask=mask, position_ids=torch.cat([before, positions + virtual], 1),
                                     use_cache=False).last_hidden_state
        return states[:, virtual:]
