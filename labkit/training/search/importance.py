"""Which settings matter: how much of the values' variance each explains, by Optuna's functional ANOVA (Hutter, Hoos and Leyton-Brown
2014, https://proceedings.mlr.press/v32/hutter14.html), and which ones make the best trials stand out, by PED-ANOVA (Watanabe et al.
2023, https://arxiv.org/abs/2304.10255).

Few trials say little about that. Each importance comes with the range in which it falls when the trials are drawn anew (bootstrap), and
below `LEAST` trials there is none. Where pruning left few whole trials, what most trials had reached at an early step is taken instead.
"""

import random
import warnings
from typing import Any

from labkit.training.search.space import Space
from labkit.training.search.study import Row

LEAST = 8  # trials
_DRAWS = 20
_TREES = 32


def importance(found: list[Row], space: Space, direction: str = "minimise", seed: int = 0) -> dict[str, Any] | None:
    """The importance of each setting; None where there are fewer than `LEAST` trials to compare, or their values are all the same.

    Returns:
        `step`: at which the trials are compared (None: their final values); `trials`: how many; `settings`: by name `share` (of the
        variance, by fANOVA, all adding up to 1), `low` and `high` (its middle 90% over 20 bootstrap draws) and `top` (by PED-ANOVA, of
        the best tenth), the largest share first; `unrated`: settings that vary only in some trials.
    """
    import optuna

    step, values = comparable(found)
    if len(values) < LEAST or len({value for _, value in values}) < 2:
        return None
    rated = [each for each in space.dimensions if all(each.name in row["parameters"] for row, _ in values)]
    unrated = [each.name for each in space.dimensions if each not in rated]
    if not rated:
        return None

    def shares(drawn: list[tuple[Row, float]], evaluator: Any) -> dict[str, float]:
        study = optuna.create_study(direction=direction.replace("ise", "ize"))
        study.add_trials([optuna.trial.create_trial(
            params={each.name: row["parameters"][each.name] for each in rated}, value=value,
            distributions={each.name: each.distribution() for each in rated}) for row, value in drawn])
        return optuna.importance.get_param_importances(study, evaluator=evaluator)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    forest = lambda: optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        plain = shares(values, forest())
        top = shares(values, optuna.importance.PedAnovaImportanceEvaluator())
        drawing, draws = random.Random(seed), []
        while len(draws) < _DRAWS:
            drawn = drawing.choices(values, k=len(values))
            if len({value for _, value in drawn}) > 1:
                draws.append(shares(drawn, forest()))
    low, high = round(0.05 * (_DRAWS - 1)), round(0.95 * (_DRAWS - 1))
    spread = {name: sorted(draw.get(name, 0.0) for draw in draws) for name in plain}
    return {"step": step, "trials": len(values), "unrated": unrated,
            "settings": {name: {"share": share, "low": spread[name][low], "high": spread[name][high], "top": top.get(name, 0.0)}
                         for name, share in sorted(plain.items(), key=lambda pair: -pair[1])}}


def comparable(found: list[Row]) -> tuple[int | None, list[tuple[Row, float]]]:
    """The trials that can be compared, with their values: whole ones with their final values (step None) where they are at least half of
    all that ran; else those that reached the last step that half of them reached, with what they reported there."""
    ran = [row for row in found if row["state"] in ("complete", "pruned")]
    whole = [(row, row["value"]) for row in ran if row["state"] == "complete"]
    if 2 * len(whole) >= len(ran):
        return None, whole
    reached: dict[int, list[tuple[Row, float]]] = {}
    for row in ran:
        for step, value in row["reports"]:
            reached.setdefault(step, []).append((row, value))
    steps = [step for step, values in reached.items() if 2 * len(values) >= len(ran)]
    return (max(steps), reached[max(steps)]) if steps else (None, whole)
