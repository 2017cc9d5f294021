"""The recipe: everything that decides what a training run does, as one frozen dataclass and one TOML file."""

import dataclasses
import math
import operator
import os
from dataclasses import dataclass
from typing import Any

from labkit import files, models
from labkit.errors import LabError


def of(default: Any, **limits: Any) -> Any:
    """A setting with its default and its limits: `choices`, `least`, `most`, `above`, `below`."""
    return dataclasses.field(default=default, metadata=limits)


_LIMITS = (("least", "at least", operator.ge), ("most", "at most", operator.le),
           ("above", "above", operator.gt), ("below", "below", operator.lt))


# What an encoder's losses alone know, each with the value that changes nothing.
_OF_ENCODERS = {"label_smoothing": 0.0, "focal_gamma": 0.0, "class_weights": "none", "task_weighting": "fixed", "task_sampling": "none",
                "contrastive_weight": 0.0}


@dataclass(frozen=True)
class Recipe:
    """How a run is trained. Two runs with equal recipes, data and base end in the same weights.

    Attributes:
        scenario: the scenario's name; of a task's own data (`tasks.formats`), the name of the data.
        name: the run's name; its folder is `runs/SCENARIO/NAME`.
        base: the base model, see `models.resolve`.
        task: what the model learns to do: `chat` (write the answer), `classify` (one of several labels), `multi_label` (any number of
            them), `regress` (a number), `tag` (a label for each word), `span` (the answer's place in a text), `embed` (texts near or far).
        fields: which of the scenario's fields an encoder learns, one head each on a shared trunk; empty: all label fields.
        method: what of the base learns, see `methods`: `full`, `freeze` (the top `layers`), `head` (nothing but the head), `lora`
            (Hu et al. 2021, https://arxiv.org/abs/2106.09685), `rslora`, `dora`, `pissa`, `ia3`, `prefix` or `prompt`.
        objective: `cross_entropy`; for encoders also `supervised_contrastive`, `triplet`, `cosine_pairs` and `info_nce`, see `objectives`.
        contrastive_weight: how much the contrastive objective counts beside cross-entropy, which then counts 1; 0: it stands alone, and a
            logistic regression on the learned embeddings is the head.
        temperature: of the contrastive objectives' similarities.
        margin: of the triplet objective.
        head_strength: how closely the logistic regression of a contrastive objective follows its texts (scikit-learn's C).
        label_smoothing: share of the target's probability that is spread over all labels (Szegedy et al. 2016, section 7,
            https://arxiv.org/abs/1512.00567).
        focal_gamma: how strongly easy examples are weighed down; 0 is cross-entropy (Lin et al. 2017, https://arxiv.org/abs/1708.02002).
        class_weights: `none`, or `balanced` (rows / (labels x rows of the label)).
        task_weighting: how the heads' losses are weighed: `fixed`, `uncertainty` (Kendall et al. 2018, https://arxiv.org/abs/1705.07115)
            or `gradient_norm` (Chen et al. 2018, https://arxiv.org/abs/1711.02257).
        task_weights: with `fixed`, the weight of each field in the order of `fields`; empty: 1 each.
        task_sampling: whether each step teaches all heads that its records have (`none`), or one of them, drawn evenly (`uniform`), by its
            records (`proportional`) or between the two (`temperature`), see `objectives.multitask.task_shares`. For heads whose losses
            or numbers of records differ much.
        task_temperature: of `task_sampling` by `temperature`: 1 is proportional, large is uniform.
        pooling: what of a text's token states stands for it: `mean`, or `first` (the encoder's [CLS]).
        teacher: the run (`SCENARIO/NAME`), or of a chat model also the base model, whose probabilities it learns from beside the answers,
            with the same tokenizer; empty: none, see `teacher` and, for encoders, `teacher_heads`.
        teacher_weight: how much the teacher counts; the answers themselves count 1 less this.
        teacher_temperature: what both sides' scores are divided by where they are compared.
        virtual_tokens: length of the prefix or prompt that `prefix` and `prompt` learn.
        rank: rank of the LoRA matrices. (As for `layers`, with 6 layers: 0.59 at 16, 0.62 at 32.)
        alpha: LoRA's scale; the update is multiplied by alpha / rank.
        dropout: dropout before the LoRA matrices, probability.
        token_drop: share of a conversation's (or an encoder's text's) tokens that the adapted layers do not see, drawn anew at each
            step; not of the system prompt's and the answer's, and 0 for tags and spans (after Hou et al. 2022,
            https://arxiv.org/abs/2203.13240, and Yao et al. 2022, https://arxiv.org/abs/2211.11586, who leave out tokens in the
            middle layers). It makes a step cheaper and keeps the
            model from leaning on single words. (A quarter of the training cores held out, accuracy without and with 0.15: legal category
            0.62 and 0.66, outcome 0.55 and 0.55, intent 0.65 and 0.69, sentiment 0.59 and 0.58, in 5 to 19% less time.)
        text_share: how often what comes behind an answer's last label or number is run, as a share of the record's visits; it then counts
            1 / text_share times, so that the objective stays the same on average. (Labels come first in three of the scenarios; a
            step of medical's then has 1,170 tokens in place of 1,480 at 0.33.)
        layers: how many layers, counted from the top, are adapted; 0 means all. (Four folds of the training cores, mean accuracy of eight
            label fields after 5 epochs at 1e-3: 0.59 with 6 layers, 0.66 with 12, for twice the time.)
        optimiser: `adamw`, `adafactor`, `lion`, `muon`, `schedule_free` or `sgd`, see `optimisers`.
        learning_rate: the peak learning rate.
        head_rate: how many times that rate an encoder's heads learn at.
        lora_plus: how many times that rate the second matrix of each pair, B, learns at; 1 is plain LoRA (LoRA+, Hayou et al.
            2024, https://arxiv.org/abs/2402.12354). (Medical, a quarter of the training cores held out: loss over the last steps
            0.63 at 1 with 3e-3, 0.46 at 4 and 0.31 at 8 with 2e-3; accuracy of condition and urgency 0.70 and 0.35, 0.70 and 0.41, 0.69 and
            0.42.)
        weight_decay: decoupled weight decay; not of biases and norms.
        momentum: of `sgd` and `muon`.
        beta1: first-moment decay.
        beta2: second-moment decay.
        schedule: `cosine`, `linear` (both down to `final_rate`), `constant`, `wsd` (warm-up, stable, decay), `one_cycle`, `inverse_sqrt` or
            `cosine_restarts`, after a linear warm-up, see `schedules`.
        warmup: share of the steps over which the learning rate rises.
        final_rate: the learning rate at the end as a share of the peak.
        label_weight: how many times a token of a label or a number counts in the objective; the tokens of a text count once.
            1 is plain cross-entropy. The reported losses are always plain. (Customer service, a quarter of the training cores held
            out, accuracy of intent and sentiment: 0.54 and 0.61 at 1; 0.57 and 0.65 at 4; 0.67 and 0.73 at 10 with a learning rate
            of 3e-3 in place of 1e-3.)
        clip: largest norm of the gradient; 0 does not clip.
        neftune: strength of the noise on the embeddings while learning (Jain et al. 2023, https://arxiv.org/abs/2310.05914); 0: none.
        ema: decay of the exponential moving average of the weights, which is what is measured and saved; 0: none.
        patience: measurements without a gain after which training stops; the best weights are kept. 0: train to the end, keep the last.
        monitor: what is a gain: a loss or an error falling, or any other metric of the task rising.
        evaluate_steps: steps between measurements on the validation records; 0: at the end of each epoch.
        answers: validation records of a scenario that a chat model answers at each measurement, for a person to read; each takes
            about a second.
        epochs: passes over the training records.
        batch_size: records a step.
        micro_tokens: tokens that go through the model at once; a larger batch is run in parts that add up
            to the same gradient.
        max_tokens: records longer than this are left out and listed.
        precision: `auto` (bfloat16 where the processor multiplies it natively, else float32), `bf16` or `fp32`.
        quantised: `nf4` or `fp4` keep the frozen base's linear maps in 4 bits (QLoRA, see `quantised`); `none`: in the number format.
        shard: divide the layers of a chat model among the processes that train it (FSDP2, see `sharding`), where it does not fit one;
            slower, as the frozen layers' work is not kept, and what `token_drop` leaves out no layer sees. One process alone has them all.
        share_prefix: run the tokens that all prompts begin with once a batch instead of once a record.
        checkpoint_steps: steps between checkpoints.
        max_steps: stop after this many steps; 0 means no limit.
        max_seconds: stop after this many seconds of training; 0 means no limit. Such a run cannot be repeated exactly.
        seed: of the initial LoRA matrices, the batches' order and the dropout.
    """

    scenario: str
    name: str = "default"
    base: str = models.DEFAULT
    task: str = of("chat", choices=("chat", "classify", "multi_label", "regress", "tag", "span", "embed"))
    fields: tuple[str, ...] = ()
    method: str = of("lora", choices=("full", "freeze", "head", "lora", "rslora", "dora", "pissa", "ia3", "prefix", "prompt"))
    objective: str = of("cross_entropy", choices=("cross_entropy", "supervised_contrastive", "triplet", "cosine_pairs", "info_nce"))
    contrastive_weight: float = of(0.0, least=0.0)
    temperature: float = of(0.05, above=0.0)
    margin: float = of(0.2, least=0.0)
    head_strength: float = of(10.0, above=0.0)
    label_smoothing: float = of(0.0, least=0.0, below=1.0)
    focal_gamma: float = of(0.0, least=0.0)
    class_weights: str = of("none", choices=("none", "balanced"))
    task_weighting: str = of("fixed", choices=("fixed", "uncertainty", "gradient_norm"))
    task_weights: tuple[float, ...] = ()
    task_sampling: str = of("none", choices=("none", "uniform", "proportional", "temperature"))
    task_temperature: float = of(1.0, above=0.0)
    pooling: str = of("mean", choices=("mean", "first"))
    teacher: str = ""
    teacher_weight: float = of(0.5, above=0.0, most=1.0)
    teacher_temperature: float = of(2.0, above=0.0)
    virtual_tokens: int = of(16, least=1)
    rank: int = of(32, least=1)
    alpha: int = of(64, least=1)
    dropout: float = of(0.0, least=0.0, below=1.0)
    token_drop: float = of(0.15, least=0.0, below=1.0)
    text_share: float = of(0.33, above=0.0, most=1.0)
    layers: int = of(8, least=0)
    optimiser: str = of("adamw", choices=("adamw", "adafactor", "lion", "muon", "schedule_free", "sgd"))
    learning_rate: float = of(2e-3, above=0.0, below=1.0)
    head_rate: float = of(1.0, above=0.0)
    lora_plus: float = of(8.0, above=0.0, most=100.0)
    weight_decay: float = of(0.0, least=0.0)
    momentum: float = of(0.9, least=0.0, below=1.0)
    beta1: float = of(0.9, least=0.0, below=1.0)
    beta2: float = of(0.99, least=0.0, below=1.0)
    schedule: str = of("cosine", choices=("cosine", "linear", "constant", "wsd", "one_cycle", "inverse_sqrt", "cosine_restarts"))
    warmup: float = of(0.06, least=0.0, most=1.0)
    final_rate: float = of(0.05, least=0.0, most=1.0)
    label_weight: float = of(10.0, above=0.0, most=100.0)
    clip: float = of(1.0, least=0.0)
    neftune: float = of(0.0, least=0.0)
    ema: float = of(0.0, least=0.0, below=1.0)
    patience: int = of(0, least=0)
    monitor: str = "validation_loss"
    evaluate_steps: int = of(0, least=0)
    answers: int = of(0, least=0)
    epochs: int = of(3, least=1)
    batch_size: int = of(12, least=1)
    micro_tokens: int = of(8192, least=1)
    max_tokens: int = of(1024, least=1)
    precision: str = of("auto", choices=("auto", "bf16", "fp32"))
    quantised: str = of("none", choices=("none", "nf4", "fp4"))
    shard: bool = False
    share_prefix: bool = True
    checkpoint_steps: int = of(50, least=1)
    max_steps: int = of(0, least=0)
    max_seconds: float = of(0.0, least=0.0)
    seed: int = of(0, least=0)

    def __post_init__(self) -> None:
        check(self)
        if self.task_weights and len(self.task_weights) != len(self.fields):
            raise LabError(f"recipe: task_weights has {len(self.task_weights)} numbers for {len(self.fields)} fields")
        if self.task == "chat" and self.objective != "cross_entropy":
            raise LabError(f"recipe: objective {self.objective!r} is for encoders; task `chat` learns by cross_entropy")
        if self.task_sampling != "none" and (self.objective != "cross_entropy" or self.task_weighting == "gradient_norm"):
            raise LabError("recipe: task_sampling teaches one head a step by cross_entropy; objectives over embeddings and weights by "
                           "gradient norms see all heads at once, leave one of them out")
        if self.task == "chat":
            given = [name for name, plain in _OF_ENCODERS.items() if getattr(self, name) != plain]
            if given:
                raise LabError(f"recipe: {given[0]} is for encoders; task `chat` learns its answers' tokens by plain cross-entropy, "
                               "leave it out")
            if self.dropout and self.method not in ("lora", "rslora", "dora", "pissa"):
                raise LabError(f"recipe: dropout is LoRA's, before its matrices; method {self.method!r} has none, leave it out")
        if self.quantised != "none" and self.task != "chat":
            raise LabError(f"recipe: quantised is for task `chat`, not for {self.task!r}; leave it out")
        if self.shard and (self.task != "chat" or self.optimiser != "adamw" or self.quantised != "none"):
            raise LabError("recipe: shard is for task `chat` with optimiser `adamw` and a base that is not quantised")
        if self.teacher and (self.task == "embed" or self.objective != "cross_entropy"):
            raise LabError("recipe: a teacher is for heads and answers that learn by cross_entropy; leave it out")
        if self.teacher and (self.label_smoothing or self.focal_gamma or self.class_weights != "none"):
            raise LabError("recipe: a teacher's probabilities stand beside the plain cross-entropy; leave label_smoothing, focal_gamma and "
                           "class_weights out")


def check(recipe: Any) -> None:
    """Bring the settings of a frozen dataclass, made with `of`, into their fields' types; LabError for one that cannot be."""
    for field in dataclasses.fields(recipe):
        object.__setattr__(recipe, field.name, _checked(field, getattr(recipe, field.name)))


def _checked(field: "dataclasses.Field", value: Any) -> Any:
    """The value in the field's type; LabError where it is not one that the field can have."""
    kind, limits = field.type, field.metadata
    inner = {tuple[str, ...]: str, tuple[float, ...]: float}.get(kind)
    if inner and isinstance(value, list | tuple):
        return tuple(_of_type(field.name, each, inner) for each in value)
    value = _of_type(field.name, value, kind)
    if "choices" in limits and value not in limits["choices"]:
        raise LabError(f"recipe: {field.name} must be one of {', '.join(limits['choices'])}, not {value!r}")
    for name, says, holds in _LIMITS:
        if name in limits and not holds(value, limits[name]):
            raise LabError(f"recipe: {field.name} must be {says} {limits[name]:g}, not {value}")
    return value


def _of_type(name: str, value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise LabError(f"recipe: {name} must be a {getattr(kind, '__name__', kind)}, not {value!r}")
    return value


def from_dict(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain values; LabError for a key it does not have or a value that cannot be."""
    if "search" in raw:
        raise LabError(f"{where} has a [search] table; run it with: labkit search {where}")
    unknown = set(raw) - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise LabError(f"{where}: {', '.join(sorted(unknown))} is not a setting of a recipe")
    if "scenario" not in raw:
        raise LabError(f"{where}: scenario is missing")
    return Recipe(**raw)


def read(path: str | os.PathLike) -> Recipe:
    """Read a recipe's TOML; LabError names the file and what is wrong."""
    return from_dict(files.read_toml(path), str(path))


def write(recipe: Recipe, path: str | os.PathLike) -> None:
    """Write the recipe as TOML; `read` gives an equal one back."""
    import tomli_w

    files.write_text(path, tomli_w.dumps(plain(recipe)))


def plain(recipe: Recipe) -> dict[str, Any]:
    """The settings as TOML and JSON have them: lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(recipe).items()}
