"""A decoder that learns to write answers, run whole at every step: for the methods that reach below the top layers or before the text
(`full`, `prefix`, `prompt`), and for models whose layers cannot be cut.

Batches are padded, of similar length; scores over the vocabulary are made for answer tokens only. The same records, views and weights as
in `chat`, so that both give the same loss.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import BaseModel
from labkit.training import chat_data, masters, methods, noise, views
from labkit.training import teacher as teachers
from labkit.training.chat_data import ChatData
from labkit.training.examples import Encoded, batches, by_length
from labkit.training.learner import Passed
from labkit.training.objective import token_losses
from labkit.training.precision import best_precision
from labkit.training.recipe import Recipe
from labkit.training.views import View
from labkit.training.world import World

if TYPE_CHECKING:
    import torch

_HELD_OUT_BATCH = 32


class PlainChat:
    """See the module's docstring; `learner.Learner` says what each method is for."""

    def __init__(self, recipe: Recipe, base: BaseModel, data: ChatData) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.recipe, self.base, self.data, self.micro_tokens = recipe, base, data, recipe.micro_tokens
        self.dtype = torch.bfloat16 if best_precision(recipe.precision) == "bf16" else torch.float32
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=self.dtype).to(self.device)
        count = model.config.num_hidden_layers
        self.model = methods.apply(model, recipe, max(0, count - recipe.layers) if recipe.layers else 0)
        self.masters = masters.of(self.model)
        self.model.train()
        self.head = methods.inner(self.model).get_output_embeddings()
        self.teacher = teachers.load(recipe, base, data.tokenizer, self.dtype, self.device)

    def prepare(self, owner: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Let a teacher see the records; nothing else is kept between steps."""
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
        noisy = noise.Noise(self.recipe.neftune, self.recipe.seed)
        with noisy.on(noise.embedding_of(methods.inner(self.model))):
            for part in self._parts(train, world.share(rows)):
                noisy.at(index, part, self._mask(seen, part))
                losses, told = teachers.losses(self.teacher, self.head, *self._predicting(train, part, seen), train, part, seen)
                count = lambda name: torch.tensor([each for row in part for each in getattr(seen[row], name)], device=self.device)  # noqa: B023, E731
                (losses @ count("weights") / weight).backward()
                total += (told @ count("plain")).item() / plain
        masters.pull_gradients(self.model, self.masters)
        return Passed(world.total(total), sum(len(view.kept) for view in seen.values()))

    def drop_gradients(self) -> None:
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
        written = methods.save(self.model, self.masters, self.base, folder)
        if (folder / "model").exists():
            self.data.tokenizer.save_pretrained(folder / "model")
            written = sorted(f"model/{path.name}" for path in (folder / "model").iterdir())
        return written

    def _parts(self, data: Encoded, rows: list[int]) -> list[list[int]]:
        """The rows in parts of at most `micro_tokens` tokens, padding counted, at least one row each."""
        parts: list[list[int]] = []
        for row in sorted(rows, key=lambda row: len(data.examples[row].tokens)):
            longest = len(data.examples[row].tokens)
            if not parts or (len(parts[-1]) + 1) * longest > self.micro_tokens:
                parts.append([])
            parts[-1].append(row)
        return parts

    def _mask(self, seen: dict[int, View], rows: list[int]) -> "torch.Tensor":
        """Which places of a padded batch hold a token, int64 (rows, tokens)."""
        import torch

        lengths = torch.tensor([len(seen[row].kept) for row in rows])
        return (torch.arange(int(lengths.max())) < lengths[:, None]).long()

    def _predicting(self, data: Encoded, rows: list[int], seen: dict[int, View]) -> "tuple[torch.Tensor, torch.Tensor]":
        """The last state before each token that the rows' views predict, (tokens, hidden), and these tokens, int64 (tokens,)."""
        import torch

        kept = [seen[row].kept for row in rows]
        longest = max(len(places) for places in kept)
        tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
        positions, mask = torch.zeros_like(tokens), self._mask(seen, rows)
        wanted, answers = [], []
        for number, (row, places) in enumerate(zip(rows, kept, strict=True)):
            example, predicted = data.examples[row], seen[row].predicted
            tokens[number, : len(places)] = torch.tensor([example.tokens[place] for place in places])
            positions[number, : len(places)] = torch.tensor(places)
            wanted += [number * longest + place for place in range(len(places) - len(predicted) - 1, len(places) - 1)]
            answers += [example.tokens[place] for place in predicted]
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

    def validation_loss(self) -> float:
        """Mean cross-entropy over the answer tokens of the validation records, nats."""
        import torch

        held_out = self.data.held_out
        self.model.eval()
        total = 0.0
        with torch.no_grad():
            for rows in by_length(held_out.examples, _HELD_OUT_BATCH):
                for part in self._parts(held_out, rows):
                    states, answers = self._predicting(held_out, part, {row: views.whole(held_out.examples[row]) for row in part})
                    total += token_losses(self.head, states, answers).sum().item()
        self.model.train()
        return total / sum(example.answer_tokens for example in held_out.examples)
