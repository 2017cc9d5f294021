"""How much of a search's gain is noise.

The best of many trials looks better than it is: among equal settings the luckiest wins (the winner's curse). So the best settings and the
recipe's own are trained again with seeds that the search has not seen, seed by seed, and only that difference is believed.
"""

import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit import files
from labkit.errors import LabError
from labkit.training.search import workers as working
from labkit.training.search.space import Settings

Noise = dict[str, Any]

_LEVEL = 0.95


def repeat(trial: working.Trial, best: Settings, default: Settings, seeds: Sequence[int], *, direction: str = "minimise",
           searched: dict[str, Any] | None = None, folder: str | os.PathLike | None = None, workers: int = 1,
           on_value: Callable[[str, int, float], None] | None = None) -> Noise:
    """Train both settings with each seed, and compare.

    Args:
        trial: as of `workers.search`; it is given the settings with `seed` among them, and a `report` that never prunes.
        seeds: which the search has not used, at least two.
        searched: what the search saw: `best` and `default` (values, or None) and `trials` (how many were whole).
        folder: where each value is kept as it comes, so that a comparison that was cut off goes on; None: nowhere.
        on_value: called with (`best` or `default`, seed, value).

    Returns:
        what `compare` gives, with `seeds`.
    """
    seeds = list(dict.fromkeys(seeds))
    if len(seeds) < 2:
        raise LabError("search: to tell a gain from noise takes at least 2 seeds")
    path = Path(folder) / "seeds.json" if folder is not None else None
    jobs = [(side, {**settings, "seed": seed}) for seed in seeds for side, settings in (("best", best), ("default", default))]
    kept = [] if path is None or not path.exists() else files.read_json(path)
    known = {_key(settings, seed): value for settings, seed, value in kept}
    jobs = {_key(_without_seed(settings), settings["seed"]): (side, settings) for side, settings in jobs}
    left = [job for key, job in jobs.items() if key not in known]
    for place, value in working.run_all(trial, [settings for _, settings in left], workers):
        side, settings = left[place]
        known[_key(_without_seed(settings), settings["seed"])] = value
        kept.append([_without_seed(settings), settings["seed"], value])
        if path is not None:
            files.write_json(path, kept)
        if on_value:
            on_value(side, settings["seed"], value)
    values = [[known[_key(settings, seed)] for seed in seeds] for settings in (best, default)]
    return {"seeds": seeds, **compare(*values, direction=direction, searched=searched)}


def compare(best: Sequence[float], default: Sequence[float], *, direction: str = "minimise",
            searched: dict[str, Any] | None = None) -> Noise:
    """What repeated values say: pairs of the same seed, `best` and `default` in the same order.

    Returns:
        `best`, `default`: the values; `mean_best`, `mean_default`; `gain`: mean of the pairs' differences, above 0 where the best settings
        are better; `low`, `high`: its 95% interval (Student's t over the pairs); `probability`: that the best settings are better on
        average (the same t, a flat prior); `wins`: the share of all pairings of a run of one with a run of the other that the best
        settings win (Mann-Whitney's U / n²; a tie counts half); `deviation`: standard deviation from seed to seed, pooled; `luck`: what the
        best of so many equal settings would seem to gain over one of them (`best_of` x deviation; only with `searched`; with pruning it is
        more, as pruned trials competed too); `seemed`: the gain
        that the search saw (or None); `verdict`: `better`, `worse` or `unclear`, as the interval lies.
    """
    from scipy import stats

    if len(best) != len(default) or len(best) < 2:
        raise LabError("search: as many values of the one as of the other are needed, at least 2")
    sign = 1.0 if direction == "minimise" else -1.0
    gains = [sign * (of_default - of_best) for of_best, of_default in zip(best, default, strict=True)]
    gain, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, len(gains) - 1)) * error
    probability = float(stats.t.cdf(gain / error, len(gains) - 1)) if error else 0.5 + 0.5 * (gain > 0) - 0.5 * (gain < 0)
    pairs = [sign * (of_default - of_best) for of_best in best for of_default in default]
    deviation = math.sqrt((statistics.variance(best) + statistics.variance(default)) / 2)
    searched = searched or {}
    seen = [searched.get(side) for side in ("best", "default")]
    return {
        "best": list(best), "default": list(default), "mean_best": statistics.fmean(best), "mean_default": statistics.fmean(default),
        "gain": gain, "low": gain - reach, "high": gain + reach, "probability": probability,
        "wins": sum((pair > 0) + 0.5 * (pair == 0) for pair in pairs) / len(pairs), "deviation": deviation,
        "trials": searched.get("trials"), "luck": best_of(searched["trials"]) * deviation if searched.get("trials") else None,
        "seemed": None if None in seen else sign * (seen[1] - seen[0]),
        "verdict": "better" if gain - reach > 0 else "worse" if gain + reach < 0 else "unclear",
    }


def best_of(count: int) -> float:
    """The expected largest of `count` independent standard normal numbers: count · ∫ x φ(x) Φ(x)^(count-1) dx; 0 for one."""
    import numpy
    from scipy import stats

    if count < 2:
        return 0.0
    x = numpy.linspace(-9, 9, 20_001)  # beyond 9 standard deviations lies 1e-19
    return float(numpy.trapezoid(count * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1), x))


def sentence(noise: Noise, language: str = "en") -> str:
    """What `compare` found, for a person: the gain, its interval, and what luck alone would have shown."""
    number = lambda name: f"{noise[name]:.4g}"  # noqa: E731
    seeds, verdict = len(noise["best"]), noise["verdict"]
    if language == "zh":
        ends = {"better": "增益大于噪声。", "worse": "所谓最佳设置其实更差。", "unclear": "区间包含 0，无法与噪声区分。"}
        said = (f"用 {seeds} 个新种子重复：最佳设置平均 {number('mean_best')}，原配方 {number('mean_default')}，"
                f"增益 {number('gain')}（95% 区间 {number('low')} 至 {number('high')}）；{ends[verdict]}")
        said += f"最佳设置平均更好的概率为 {noise['probability']:.0%}，单次训练胜过原配方的概率为 {noise['wins']:.0%}。"
        if noise["seemed"] is not None:
            said += f"搜索时看到的增益是 {number('seemed')}。"
        if noise["luck"] is not None:
            said += (f"仅换种子，结果的标准差就有 {number('deviation')}；即使所有设置同样好，"
                     f"从 {noise['trials']} 次完整试验中挑最好的一次，也会显出约 {number('luck')} 的增益。")
        return said
    ends = {"better": "the gain is more than noise.", "worse": "what looked best is worse.",
            "unclear": "the interval holds zero, so that the gain cannot be told from noise."}
    said = (f"Over {seeds} new seeds the best settings reach {number('mean_best')} and the recipe's own {number('mean_default')} on "
            f"average, a gain of {number('gain')} (95% interval {number('low')} to {number('high')}): {ends[verdict]} "
            f"The best settings are better on average with a probability of {noise['probability']:.0%}; one training of them beats one of "
            f"the recipe's own in {noise['wins']:.0%} of pairings.")
    if noise["seemed"] is not None:
        said += f" In the search the gain seemed to be {number('seemed')}."
    if noise["luck"] is not None:
        said += (f" From seed to seed a training varies by {number('deviation')} (standard deviation); were all settings equally good, "
                 f"the best of {noise['trials']} whole trials would still seem to gain about {number('luck')}.")
    return said


def _without_seed(settings: Settings) -> Settings:
    return {name: value for name, value in settings.items() if name != "seed"}


def _key(settings: Settings, seed: int) -> str:
    return files.canonical_json([settings, seed])
