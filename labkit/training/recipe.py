"""The recipe: everything that decides what a training run does, as one frozen dataclass and one TOML file."""

import dataclasses
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import files, models
from labkit.errors import LabError


@dataclass(frozen=True)
class Recipe:
    """How a run is trained. Two runs with equal recipes, data and base end in the same weights.

    Attributes:
        scenario: the scenario's name.
        name: the run's name; its folder is `runs/SCENARIO/NAME`.
        base: the base model, see `models.resolve`.
        method: `lora` (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
        rank: rank of the LoRA matrices. (As for `layers`, with 6 layers: 0.59 at 16, 0.62 at 32.)
        alpha: LoRA's scale; the update is multiplied by alpha / rank.
        dropout: dropout before the LoRA matrices, probability.
        token_drop: share of a conversation's tokens that the adapted layers do not see, drawn anew at each step; not of the system
            prompt's and the answer's (after Hou et al. 2022, https://arxiv.org/abs/2203.13240, and Yao et al. 2022,
            https://arxiv.org/abs/2211.11586, who leave out tokens in the middle layers). It makes a step cheaper and keeps the
            model from leaning on single words. (A quarter of the training cores held out, accuracy without and with 0.15: legal category
            0.62 and 0.66, outcome 0.55 and 0.55, intent 0.65 and 0.69, sentiment 0.59 and 0.58, in 5 to 19% less time.)
        text_share: how often what comes behind an answer's last label or number is run, as a share of the record's visits; it then counts
            1 / text_share times, so that the objective stays the same on average. (Labels come first in three of the scenarios; a
            step of medical's then has 1,170 tokens in place of 1,480 at 0.33.)
        layers: how many layers, counted from the top, are adapted; 0 means all. (Four folds of the training cores, mean accuracy of eight
            label fields after 5 epochs at 1e-3: 0.59 with 6 layers, 0.66 with 12, for twice the time.)
        learning_rate: AdamW's peak learning rate.
        lora_plus: how many times that rate the second matrix of each pair, B, learns at; 1 is plain LoRA (LoRA+, Hayou et al.
            2024, https://arxiv.org/abs/2402.12354). (Medical, a quarter of the training cores held out: loss over the last steps
            0.63 at 1 with 3e-3, 0.46 at 4 and 0.31 at 8 with 2e-3; accuracy of condition and urgency 0.70 and 0.35, 0.70 and 0.41, 0.69 and
            0.42.)
        weight_decay: AdamW's decoupled weight decay.
        beta2: AdamW's second-moment decay.
        schedule: `cosine`, `linear` (both down to `final_rate`) or `constant`, after a linear warm-up.
        warmup: share of the steps over which the learning rate rises.
        final_rate: the learning rate at the end as a share of the peak.
        label_weight: how many times a token of a label or a number counts in the objective; the tokens of a text count once.
            1 is plain cross-entropy. The reported losses are always plain. (Customer service, a quarter of the training cores held
            out, accuracy of intent and sentiment: 0.54 and 0.61 at 1; 0.57 and 0.65 at 4; 0.67 and 0.73 at 10 with a learning rate
            of 3e-3 in place of 1e-3.)
        clip: largest norm of the gradient; 0 does not clip.
        epochs: passes over the training records.
        batch_size: records a step.
        micro_tokens: tokens that go through the model at once; a larger batch is run in parts that add up
            to the same gradient.
        max_tokens: records longer than this are left out and listed.
        precision: `auto` (bfloat16 where the processor multiplies it natively, else float32), `bf16` or `fp32`.
        share_prefix: run the tokens that all prompts begin with once a batch instead of once a record.
        checkpoint_steps: steps between checkpoints.
        max_steps: stop after this many steps; 0 means no limit.
        max_seconds: stop after this many seconds of training; 0 means no limit. Such a run cannot be repeated exactly.
        seed: of the initial LoRA matrices, the batches' order and the dropout.
    """

    scenario: str
    name: str = "default"
    base: str = models.DEFAULT
    method: str = "lora"
    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0
    token_drop: float = 0.15
    text_share: float = 0.33
    layers: int = 8
    learning_rate: float = 2e-3
    lora_plus: float = 8.0
    weight_decay: float = 0.0
    beta2: float = 0.99
    schedule: str = "cosine"
    warmup: float = 0.06
    final_rate: float = 0.05
    label_weight: float = 10.0
    clip: float = 1.0
    epochs: int = 3
    batch_size: int = 12
    micro_tokens: int = 8192
    max_tokens: int = 1024
    precision: str = "auto"
    share_prefix: bool = True
    checkpoint_steps: int = 50
    max_steps: int = 0
    max_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not field.type:
                raise LabError(f"recipe: {field.name} must be a {field.type.__name__}, not {value!r}")
        for name in ("rank", "alpha", "epochs", "batch_size", "micro_tokens", "max_tokens", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise LabError(f"recipe: {name} must be at least 1, not {getattr(self, name)}")
        for name in ("layers", "max_steps", "max_seconds", "clip", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise LabError(f"recipe: {name} must not be negative, not {getattr(self, name)}")
        for name in ("dropout", "token_drop", "warmup", "final_rate", "beta2"):
            if not 0 <= getattr(self, name) <= 1 or (name in ("dropout", "token_drop", "beta2") and getattr(self, name) == 1):
                raise LabError(f"recipe: {name} must be from 0 to 1, not {getattr(self, name)}")
        if not 0 < self.label_weight <= 100:
            raise LabError(f"recipe: label_weight must be above 0 and at most 100, not {self.label_weight}")
        if not 0 < self.text_share <= 1:
            raise LabError(f"recipe: text_share must be above 0 and at most 1, not {self.text_share}")
        if not 0 < self.lora_plus <= 100:
            raise LabError(f"recipe: lora_plus must be above 0 and at most 100, not {self.lora_plus}")
        if not 0 < self.learning_rate < 1:
            raise LabError(f"recipe: learning_rate must be above 0 and below 1, not {self.learning_rate}")
        choices = {"method": ("lora",), "schedule": ("cosine", "linear", "constant"), "precision": ("auto", "bf16", "fp32")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise LabError(f"recipe: {name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")


def from_dict(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain values; LabError for a key it does not have or a value that cannot be."""
    unknown = set(raw) - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise LabError(f"{where}: {', '.join(sorted(unknown))} is not a setting of a recipe")
    if "scenario" not in raw:
        raise LabError(f"{where}: scenario is missing")
    return Recipe(**raw)


def read(path: str | os.PathLike) -> Recipe:
    """Read a recipe's TOML; LabError names the file and what is wrong."""
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is not valid TOML: {error}") from error
    return from_dict(raw, str(path))


def write(recipe: Recipe, path: str | os.PathLike) -> None:
    """Write the recipe as TOML; `read` gives an equal one back."""
    import tomli_w

    files.write_text(path, tomli_w.dumps(dataclasses.asdict(recipe)))
