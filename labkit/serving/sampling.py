"""One token from the logits: the same rule for every engine, so that the same settings mean the same everywhere."""

import numpy as np

from labkit.serving import Sampling

_PENALISED = 64  # how many of the answer's last tokens the repeat penalty looks at


class Picker:
    """Draws an answer's tokens one after the other; a new one for each answer."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def pick(self, logits: np.ndarray, answer: list[int]) -> int:
        """The next token's id from float32 logits (vocabulary,), given the answer's tokens so far."""
        sampling = self._sampling
        if sampling.repeat_penalty != 1.0 and answer:
            logits = penalised(logits, answer[-_PENALISED:], sampling.repeat_penalty)
        if sampling.temperature == 0:
            return int(logits.argmax())
        ids, probabilities = candidates(logits, sampling)
        return int(ids[min(np.searchsorted(probabilities.cumsum(), self._random.random(), side="right"), len(ids) - 1)])


def penalised(logits: np.ndarray, tokens: list[int], penalty: float) -> np.ndarray:
    """Logits, those of `tokens` divided by the penalty, multiplied where negative (CTRL, Keskar et al. 2019, 4.1)."""
    logits = logits.copy()
    seen = np.unique(tokens)
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return logits


def candidates(logits: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The ids that can be drawn, likeliest first, and their probabilities (float64, sum 1).

    First the `top_k` largest, then the fewest of them that hold `top_p` of the probability (nucleus sampling, Holtzman
    et al. 2020, section 3.1).
    """
    count = min(sampling.top_k or len(logits), len(logits))
    ids = np.argpartition(-logits, count - 1)[:count]
    ids = ids[np.lexsort((ids, -logits[ids]))]
    scaled = logits[ids].astype(np.float64) / sampling.temperature
    probabilities = np.exp(scaled - scaled[0])
    probabilities /= probabilities.sum()
    kept = int(np.searchsorted(probabilities.cumsum(), sampling.top_p)) + 1
    return ids[:kept], probabilities[:kept] / probabilities[:kept].sum()
