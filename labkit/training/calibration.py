"""How fast this machine trains a base model, measured in ten seconds, and the settings that make the best of a given time.

Measured are a step of one adapted layer and a pass of one frozen layer, there and back, in each number format and for batches of several
sizes. What a whole training takes follows: steps cost in proportion to layers and tokens. The choice goes into the recipe as plain
settings, so that a run can be repeated anywhere.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.models import BaseModel
from labkit.training.examples import Encoded
from labkit.training.precision import best_precision
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

_LAYERS = 2          # of the throwaway model that is measured
_TOKENS = (128, 512, 1024, 2048)
_GAIN = 1.05         # a larger batch must be that much faster to be worth fewer steps
_FEWEST_LAYERS = 4   # with fewer, labels were not learned (see `Recipe.layers`)
_SEQUENCE = 64


@dataclass(frozen=True)
class Rate:
    """Seconds a token for one layer: a step of an adapted one, a pass of a frozen one; `tokens` in a batch."""

    precision: str
    tokens: int
    step: float
    frozen: float


@dataclass(frozen=True)
class Calibration:
    """What was measured for one base model on this machine.

    Attributes:
        rates: one for each number format and batch size that fitted into the time.
        layers: how many the base has.
        head: seconds a predicted token for the scores over the vocabulary, there and back.
        seconds: how long measuring took.
    """

    rates: tuple[Rate, ...]
    layers: int
    head: float
    seconds: float

    def best(self) -> Rate:
        """The fastest rate; of nearly equal ones that with the smallest batch, which takes more steps on the same data."""
        fastest = min(rate.step for rate in self.rates)
        return min((rate for rate in self.rates if rate.step <= fastest * _GAIN), key=lambda rate: (rate.tokens, rate.step))

    def seconds_for(self, recipe: Recipe, data: Encoded) -> float:
        """How long a training of this recipe on this data would take, without loading, seconds."""
        rate = self.best()
        prefixes = sum(len(data.prefixes[group]) for group in {example.group for example in data.examples})
        steps = -(-len(data.examples) // recipe.batch_size)
        shared = sum(len(data.prefixes[example.group]) for example in data.examples)
        tokens = data.tokens - shared + steps * prefixes  # the prefix is run once a step
        learned = recipe.layers or self.layers
        answers = sum(example.answer_tokens for example in data.examples)
        frozen = (tokens - steps * prefixes) * rate.frozen * (self.layers - learned)
        return frozen + recipe.epochs * (tokens * rate.step * learned + answers * self.head)

    def choose(self, recipe: Recipe, data: Encoded, seconds: float) -> Recipe:
        """The recipe with the number format, the batch and as many adapted layers as fit into `seconds`.

        Raises:
            LabError: even the fewest layers take longer; says how long, and what would help.
        """
        rate = self.best()
        own = max(1.0, (data.tokens - sum(len(data.prefixes[example.group]) for example in data.examples)) / len(data.examples))
        batch = int(min(32, max(4, round(rate.tokens / own))))
        for layers in range(self.layers, 0, -1):
            chosen = dataclasses.replace(recipe, precision=rate.precision, batch_size=batch, layers=layers)
            if layers >= min(_FEWEST_LAYERS, self.layers) and self.seconds_for(chosen, data) <= seconds:
                return chosen
        least = self.seconds_for(dataclasses.replace(recipe, batch_size=batch, layers=min(_FEWEST_LAYERS, self.layers)), data)
        raise LabError(f"{recipe.epochs} epochs over {data.tokens} tokens take about {least:.0f} s on this machine with {_FEWEST_LAYERS} "
                       f"layers, more than {seconds:.0f} s; give it more time, fewer records, or fewer epochs")


def calibrate(base: BaseModel, seconds: float = 10.0) -> Calibration:
    """Measure one base model on this machine; takes about `seconds`, whatever the model's size.

    Raises:
        LabError: the base is no decoder whose layers are a plain list.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    began = time.perf_counter()
    config = AutoConfig.from_pretrained(base.folder)
    count = config.num_hidden_layers
    config.num_hidden_layers = min(_LAYERS, count)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    formats = ("bf16", "fp32") if best_precision() == "bf16" else ("fp32",)
    rates: list[Rate] = []
    head = 0.0
    for place, precision in enumerate(formats):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.random.fork_rng():
            model = AutoModelForCausalLM.from_config(config, dtype=dtype).to(device)
        until = began + seconds * (place + 1) / len(formats)
        for tokens in _TOKENS:
            if time.perf_counter() > until and rates and rates[-1].precision == precision:
                break
            rates.append(_measure(model, precision, tokens, device))
        if place == 0:
            head = _head(model, device)
        del model
    return Calibration(tuple(rates), count, head, time.perf_counter() - began)


def _measure(model: "torch.nn.Module", precision: str, tokens: int, device: str) -> Rate:
    import torch

    from labkit.training import methods
    from labkit.training.shared_prefix import Rows
    from labkit.training.split import split

    lengths = [_SEQUENCE] * max(1, tokens // _SEQUENCE)
    inner = methods.inner(model)
    count = inner.config.num_hidden_layers
    parts = split(inner, 0)
    entered = parts.enter(torch.randint(0, inner.config.vocab_size, (sum(lengths),), device=device), lengths)
    learner = methods.apply(inner, Recipe(scenario="calibration", layers=0), 0)
    step = frozen = float("inf")
    for attempt in range(3):
        at = time.perf_counter()
        with torch.no_grad():
            parts.finish([Rows(entered, lengths)])
        _wait(device)
        between = time.perf_counter()
        states = entered.detach().requires_grad_(True)
        parts.finish([Rows(states, lengths)])[0].float().square().mean().backward()
        _wait(device)
        if attempt:  # the first one sets things up
            frozen, step = min(frozen, between - at), min(step, time.perf_counter() - between)
        learner.zero_grad(set_to_none=True)
    learner.unload()
    return Rate(precision, sum(lengths), step / sum(lengths) / count, frozen / sum(lengths) / count)


def _head(model: "torch.nn.Module", device: str) -> float:
    import torch

    from labkit.training import methods
    from labkit.training.objective import token_losses

    head = methods.inner(model).get_output_embeddings()
    states = torch.randn(64, head.weight.shape[1], device=device, dtype=head.weight.dtype, requires_grad=True)
    answers = torch.zeros(64, dtype=torch.int64, device=device)
    head.requires_grad_(False)
    best = float("inf")
    for _ in range(3):
        at = time.perf_counter()
        token_losses(head, states, answers).sum().backward()
        _wait(device)
        best = min(best, time.perf_counter() - at)
    return best / 64


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
