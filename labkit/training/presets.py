"""Sensible settings for each task, to begin with: what the command line and the notebooks use where nothing else is said.

A recipe's own defaults are those of a chat on a scenario's records. The others are here, each with its reason.
"""

from typing import TYPE_CHECKING, Any

from labkit import models
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.methods import ADDED
from labkit.training.recipe import Recipe

if TYPE_CHECKING:
    from labkit.training.tasks.formats import TaskData

ENCODER = "minilm-l6"
TASKS = ("chat", "classify", "multi_label", "regress", "tag", "span", "embed")

# How BERT was fine-tuned (Devlin et al. 2019, appendix A.3, https://arxiv.org/abs/1810.04805): all weights, batches of 16 or 32, decay
# 0.01, dropout 0.1, a short warm-up and a linear way down to 0. More epochs than there, since the lab's data is small: with few rows BERT
# needs more steps, not fewer (Mosbach et al. 2021, section 5, https://arxiv.org/abs/2006.04884).
_BOTH = {"layers": 0, "lora_plus": 1.0, "schedule": "linear", "warmup": 0.1, "final_rate": 0.0, "batch_size": 16, "epochs": 8}
_FULL = {**_BOTH, "method": "full", "weight_decay": 0.01, "beta2": 0.999, "dropout": 0.1}
_ADDED = {**_BOTH, "rank": 16, "alpha": 32, "learning_rate": 1e-3}
# token_drop: an encoder's text is short and each word may be the one that matters; tag and span are about places. The last three are a
# chat answer's.
_ENCODER = {"token_drop": 0.0, "text_share": 1.0, "label_weight": 1.0, "max_tokens": 256}
_OF_TASK: dict[str, dict[str, Any]] = {
    "span": {"max_tokens": 384},  # BERT's windows for SQuAD
    # Every text of a batch is a negative of the others, so that batches are large and few epochs are enough.
    "embed": {"objective": "info_nce", "dropout": 0.0, "batch_size": 32, "epochs": 3},
    "tag": {}, "classify": {}, "multi_label": {}, "regress": {},
}
# Without labels and numbers in the answer nothing is decisive, and what is asked about, translated or summarised must be seen whole.
_CHAT_OF_DATA = {"token_drop": 0.0, "text_share": 1.0, "label_weight": 1.0}


def for_task(task: str, base: str = "", method: str = "") -> dict[str, Any]:
    """Settings for a task with a base (the embedded one for it where none is given): keyword arguments of `Recipe`.

    Args:
        method: `full` by default for encoders, `lora` for chat.

    Raises:
        LabError: there is no such task.
    """
    if task not in TASKS:
        raise LabError(f"there is no task {task!r}; choose one of {', '.join(TASKS)}")
    if task == "chat":
        return {"task": "chat", "base": base or models.DEFAULT, **({"method": method} if method else {})}
    base, added = base or ENCODER, method in ADDED
    rate = {} if added else {"learning_rate": _rate(task, base)}
    own = {name: value for name, value in _OF_TASK[task].items() if not (added and name == "dropout")}
    return {"task": task, "base": base, **(_ADDED if added else _FULL), **rate, **_ENCODER, **own, **({"method": method} if method else {})}


def recipe(task: str, scenario: str, **changes: Any) -> Recipe:
    """The task's recipe for a scenario's records, with these settings in place of its own."""
    return Recipe(**{"scenario": scenario, **for_task(task, changes.get("base", ""), changes.get("method", "")), **changes})


def of_data(data: "TaskData", **changes: Any) -> Recipe:
    """The recipe for a task's own data, with these settings in place of its own; `task` may be `embed` where the data allows it."""
    from labkit.training.tasks import embeddings
    from labkit.training.tasks import of_data as task_data

    task = changes.pop("task", data.task)
    own = dict(_CHAT_OF_DATA) if task == "chat" else {}
    if task == "embed":
        fits = {"pairs": "info_nce", "labels": "supervised_contrastive", "similarity": "cosine_pairs"}
        own["objective"] = fits[embeddings.kind_of(data.train)]
    return recipe(task, task_data.group(data.name), **{**own, **changes})


def from_dict(raw: dict[str, Any], data: "TaskData", where: str = "recipe") -> Recipe:
    """A recipe for a task's own data from plain values: what they leave out is as `of_data` has it, and the scenario is the data's.

    Raises:
        LabError: as `recipe.from_dict`, or there is no such task.
    """
    from labkit.training.tasks import of_data as task_data

    start = of_data(data, **{key: raw[key] for key in ("task", "base", "method") if key in raw})
    return recipes.from_dict({**recipes.plain(start), **raw, "scenario": task_data.group(data.name)}, where)


def monitor(task: str, data: "TaskData") -> str:
    """The measurement that tells the better of two runs on a task's own data: the metric that decides there. What a chat model writes is
    measured on a few answers only, so that there it is the validation loss."""
    if task == data.task and task != "chat":
        return data.metrics[0]
    return {"classify": "recall_at_1", "regress": "spearman"}.get(data.task, "validation_loss")


def _rate(task: str, base: str) -> float:
    """A small encoder takes, and needs, larger steps than BERT's 2e-5 to 5e-5. (The sample of names, 8 epochs: entity F1 on the test split
    0.81 at 2e-4 and 0.83 at 5e-4, on the validation split 0.66 and 0.63: no difference that such small splits could show.)"""
    if base != ENCODER:
        return 3e-5
    return 5e-5 if task == "embed" else 2e-4
