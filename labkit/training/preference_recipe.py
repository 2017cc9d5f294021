"""The recipe of preference training: everything that decides what such a run does, as one frozen dataclass and one TOML file."""

import dataclasses
import os
from dataclasses import dataclass

from labkit import files, models
from labkit.errors import LabError
from labkit.training.recipe import Recipe, check, of

METHODS = ("dpo", "orpo", "kto")
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class PreferenceRecipe:
    """How a run is trained on preferences.

    Attributes:
        scenario: the scenario's name.
        name: the run's name; its folder is `runs/SCENARIO/NAME`.
        base: the base model, see `models.resolve`.
        start: the run (`SCENARIO/NAME`) whose adapter training goes on with; empty: a new adapter on the base. Then the base, the rank,
            alpha and layers are that run's.
        method: `dpo` (Rafailov et al. 2023), `orpo` (Hong et al. 2024) or `kto` (Ethayarajh et al. 2024), see `objectives.preference`.
            KTO sees the two answers of a pair apart, as a good and a bad one.
        beta: of DPO and KTO how much leaving the reference costs, of ORPO how much the odds count beside the likelihood.
        desirable_weight: of KTO, how much a good answer counts.
        undesirable_weight: of KTO, how much a bad one counts.
        rank: rank of the LoRA matrices.
        alpha: LoRA's scale; the update is multiplied by alpha / rank.
        layers: how many layers, counted from the top, are adapted; 0 means all.
        learning_rate: the peak learning rate.
        weight_decay: decoupled weight decay.
        schedule: `cosine`, `linear` (both down to 0) or `constant`, after a linear warm-up.
        warmup: share of the steps over which the learning rate rises.
        clip: largest norm of the gradient; 0 does not clip.
        epochs: passes over the pairs.
        batch_size: pairs a step.
        micro_pairs: pairs that go through the model at once, a divisor of `batch_size`; 0: all of the batch. Where memory does
            not suffice, it is halved while training. Parts count alike, so that the last step of an epoch, whose parts may be of unequal
            size, depends on it a little; so do ORPO's likelihood (a mean over the tokens of a part) and the point that KTO measures from
            (estimated in each part).
        max_tokens: pairs of which an answer with its prompt is longer are left out and listed.
        held_out: share of the prompts whose pairs are not learned from, but measured after each epoch.
        checkpoint_steps: steps between checkpoints.
        precision: `auto` (bfloat16 where the processor multiplies it natively, else float32), `bf16` or `fp32`.
        max_steps: stop after this many steps; 0 means no limit.
        seed: of the initial LoRA matrices, the order, and which prompts are held out.
    """

    scenario: str
    name: str = "preferred"
    base: str = models.DEFAULT
    start: str = ""
    method: str = of("dpo", choices=METHODS)
    beta: float = of(0.1, above=0.0)
    desirable_weight: float = of(1.0, above=0.0)
    undesirable_weight: float = of(1.0, above=0.0)
    rank: int = 16
    alpha: int = 32
    layers: int = 0
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = of("cosine", choices=SCHEDULES)
    warmup: float = 0.06
    clip: float = 1.0
    epochs: int = 3
    batch_size: int = 8
    micro_pairs: int = 0
    max_tokens: int = 1024
    held_out: float = of(0.1, least=0.0, below=1.0)
    checkpoint_steps: int = of(50, least=1)
    precision: str = "auto"
    max_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)
        if self.micro_pairs < 0 or (self.micro_pairs and self.batch_size % self.micro_pairs):
            raise LabError(f"recipe: micro_pairs must divide batch_size ({self.batch_size}) or be 0, not {self.micro_pairs}")
        self.as_recipe()  # checks what the two have in common

    def as_recipe(self) -> Recipe:
        """What of this a recipe of plain training can say too: what is written as the run's recipe.toml."""
        shared = {field.name for field in dataclasses.fields(Recipe)} & {field.name for field in dataclasses.fields(self)} - {"method"}
        settings = {name: getattr(self, name) for name in shared}
        return Recipe(**settings, method="lora", lora_plus=1.0, token_drop=0.0, text_share=1.0, label_weight=1.0, final_rate=0.0,
                      beta2=0.999, share_prefix=False)


def write(recipe: PreferenceRecipe, path: str | os.PathLike) -> None:
    """Write the recipe as TOML; `read` gives an equal one back."""
    import tomli_w

    files.write_text(path, tomli_w.dumps(dataclasses.asdict(recipe)))


def read(path: str | os.PathLike) -> PreferenceRecipe:
    """Read a recipe of preference training; LabError names the file and what is wrong."""
    raw = files.read_toml(path)
    unknown = set(raw) - {field.name for field in dataclasses.fields(PreferenceRecipe)}
    if unknown or "scenario" not in raw:
        what = f"{', '.join(sorted(unknown))} is not a setting of a preference recipe" if unknown else "scenario is missing"
        raise LabError(f"{path}: {what}")
    return PreferenceRecipe(**raw)
