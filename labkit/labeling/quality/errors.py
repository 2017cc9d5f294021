"""Which labels are probably wrong: those that a model trained on the other records would hardly have given.

`out_of_sample` makes the probabilities (cross-validation), `ranked` the list, `of_records` both for one field of a data set. Which
labels are `likely` to be wrong, and how many, is told by confident learning (Northcutt, Jiang and Chuang 2021), from cleanlab. The
order is that of the "odds": with the given label's probability p and the best other label's q, q / (p + q).

Tried on Banking77's 10,003 training texts with 5% of the labels flipped, as the share of the flips among the first 8% of the ranking,
two seeds each. Flipped to any other label: odds 0.996 and 0.992, cleanlab's self-confidence (1 - p) the same, its normalised margin
(p - q) 0.974 and 0.982. Flipped to one of the three most similar labels, as people err: odds 0.956 and 0.960, self-confidence 0.952 and
0.940, margin 0.946 and 0.968; its list of likely errors alone (560 to 600 records) has 0.83 to 0.85. By self-confidence, single models
find less than the three together (0.936 and 0.942) when the flips are similar: regression on the encoder 0.922 and 0.918, on reduced
n-grams 0.850 and 0.846, nearest neighbours 0.920 and 0.930.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import LabError
from labkit.scenarios import Field

if TYPE_CHECKING:
    from datasets import Dataset

FOLDS = 5
METHODS = ("odds", "self_confidence", "normalized_margin")

_NEIGHBOURS = 20
_TEMPERATURE = 0.1  # a neighbour whose cosine is 0.1 lower counts e times less
_DIMENSIONS = 300  # of the reduced n-grams
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True)
class Suspect:
    """One record's label, looked at by the others: `row` in what was given, the record's id (or its row as text), the label it has, the
    most probable other one, `score` (0 to 1, higher is worse) and whether confident learning calls it `likely` to be wrong."""

    row: int
    record: str
    given: Any
    suggested: Any
    score: float
    likely: bool


def ranked(labels: Sequence[Any], probabilities: np.ndarray, *, records: Sequence[str] | None = None,
           classes: Sequence[Any] | None = None, method: str = "odds") -> list[Suspect]:
    """The labels from the most to the least suspicious; `[each.row for each in ranked(...)]` is the order of the rows.

    Args:
        labels: what the records have.
        probabilities: float (records, classes), out of sample; a row of NaN (see `out_of_sample`) cannot be judged and is left out.
        records: the records' ids, for the list.
        classes: what the columns stand for; `sorted(set(labels))` where None.
        method: what the order follows, "odds" or cleanlab's "self_confidence" or "normalized_margin"; see the module's docstring.

    Raises:
        LabError: labels, probabilities, ids and classes do not fit together, or an unknown method.
    """
    from cleanlab.rank import get_label_quality_scores

    classes = sorted(set(labels)) if classes is None else list(classes)
    names = [str(row) for row in range(len(labels))] if records is None else list(records)
    if np.shape(probabilities) != (len(labels), len(classes)) or len(names) != len(labels) or set(labels) - set(classes):
        raise LabError(f"{len(labels)} labels of {len(set(labels))} kinds and {len(names)} ids do not fit probabilities of shape "
                       f"{np.shape(probabilities)} for {len(classes)} classes")
    if len(classes) < 2:
        raise LabError("one label alone cannot be confused: label errors need at least two")
    if method not in METHODS:
        raise LabError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    rows = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if not len(rows):
        return []
    place = {value: number for number, value in enumerate(classes)}
    given = np.array([place[labels[row]] for row in rows])
    judged = np.asarray(probabilities, dtype=np.float64)[rows]
    likely = _likely(given, judged)
    every = np.arange(len(rows))
    others = judged.copy()
    others[every, given] = -1
    best = others.argmax(axis=1)
    if method == "odds":
        own, other = judged[every, given], judged[every, best]
        scores = other / np.maximum(own + other, 1e-12)
    else:
        scores = 1 - get_label_quality_scores(given, judged, method=method)
    return [Suspect(int(rows[index]), names[rows[index]], labels[rows[index]], classes[best[index]], float(scores[index]),
                    bool(likely[index])) for index in np.argsort(-scores, kind="stable")]


def out_of_sample(texts: Sequence[str], labels: Sequence[Any], *, vectors: np.ndarray | None = None, folds: int = FOLDS,
                  seed: int = 0) -> np.ndarray:
    """What models that have not seen a text's label think of it: probabilities float64 (texts, classes), columns as in
    `sorted(set(labels))`.

    The mean of logistic regression on sentence embeddings, of the same on character and word n-grams, and of the nearest neighbours among
    the embeddings. Texts that are mostly Chinese get the n-grams' alone, since the embedded encoder knows hardly any Chinese. A text
    whose label no other text has cannot be judged: its row is NaN.

    Args:
        vectors: embeddings float32 (texts, dimensions) of length 1; those of `labkit.data.duplicates.embed` where None (10,000 short texts
            take about 100 s on one core). With vectors of one's own Chinese texts are judged by these too.
        folds: into how many parts the texts are dealt, at least 2.

    Raises:
        LabError: fewer than two labels, or sizes that do not fit.
    """
    if len(texts) != len(labels) or (vectors is not None and len(vectors) != len(texts)) or folds < 2:
        raise LabError(f"{len(texts)} texts, {len(labels)} labels and the vectors must be equally many, and folds at least 2, not {folds}")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise LabError("one label alone cannot be confused: label errors need at least two")
    place = {value: number for number, value in enumerate(classes)}
    given = np.array([place[label] for label in labels])
    parts = _parts(given, folds, seed)
    grams = _cross_validated(_n_grams(texts, seed), given, len(classes), parts)
    own = vectors is not None
    foreign = np.zeros(len(texts), bool) if own else np.array([_is_chinese(text) for text in texts])
    made = grams
    if not foreign.all():
        if vectors is None:
            from labkit.data import duplicates

            vectors = duplicates.embed(texts)
        encoded = _cross_validated(vectors, given, len(classes), parts)
        near = _neighbours(vectors, given, len(classes))
        made = np.where(foreign[:, None], grams, (grams + encoded + near) / 3)
    alone = np.bincount(given)[given] == 1
    made[alone] = np.nan
    return made


def of_records(records: "Dataset", field: Field, *, vectors: np.ndarray | None = None, folds: int = FOLDS, seed: int = 0) -> list[Suspect]:
    """The suspicious labels of one label field of these records; records that lack the field are left out.

    Args:
        vectors: one row a record, also for those without the field.

    Raises:
        LabError: the field has no labels, or fewer than two of them occur.
    """
    from labkit import records as tables
    from labkit.data import duplicates

    if field.kind != "label":
        raise LabError(f"field {field.name} is a {field.kind}; label errors are looked for in label fields")
    labels = [row["answer"].get(field.name) for row in tables.rows(records, "answer")]
    kept = [row for row, label in enumerate(labels) if label is not None]
    texts = duplicates.conversations(records)
    labels, identities = [labels[row] for row in kept], records["id"][:]
    probabilities = out_of_sample([texts[row] for row in kept], labels, vectors=None if vectors is None else vectors[kept],
                                  folds=folds, seed=seed)
    return ranked(labels, probabilities, records=[identities[row] for row in kept])


def _likely(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which labels confident learning takes out: bool (rows,). Classes that no row has are left out, for it has no count of them."""
    from cleanlab.filter import find_label_issues

    known, renamed = np.unique(given, return_inverse=True)
    kept = probabilities[:, known] + 1e-12  # a row may give nothing to any of them
    if len(known) < 2:
        return np.zeros(len(given), bool)
    return find_label_issues(renamed, kept / kept.sum(1, keepdims=True), filter_by="prune_by_noise_rate", n_jobs=1)


def _parts(given: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, int64 (rows,): each class is dealt round, one class going on where the last one stopped."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(given))
    order = shuffled[np.argsort(given[shuffled], kind="stable")]
    parts = np.empty(len(given), np.int64)
    parts[order] = np.arange(len(given)) % folds
    return parts


def _cross_validated(features: np.ndarray, given: np.ndarray, classes: int, parts: np.ndarray) -> np.ndarray:
    """Probabilities float64 (rows, classes) by multinomial logistic regression on the other parts."""
    from sklearn.linear_model import LogisticRegression

    made = np.zeros((len(given), classes))
    for part in np.unique(parts):
        inside = parts == part
        known = np.unique(given[~inside])
        if len(known) == 1:
            made[inside, known[0]] = 1
        elif len(known):
            model = LogisticRegression(C=10, max_iter=200).fit(features[~inside], given[~inside])
            made[np.ix_(inside, model.classes_)] = model.predict_proba(features[inside])
    return made


def _neighbours(vectors: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities float64 (rows, classes) by a vote of the nearest other rows, weighted by similarity."""
    count = min(_NEIGHBOURS, len(given) - 1)
    votes = np.full((len(given), classes), 1e-3 / classes)
    for start in range(0, len(given), 1000):
        rows = np.arange(start, min(start + 1000, len(given)))
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(cosines, nearest, 1) - 1) / _TEMPERATURE)
        weights /= weights.sum(1, keepdims=True)
        np.add.at(votes, (rows[:, None], given[nearest]), weights)
    return votes / votes.sum(1, keepdims=True)


def _n_grams(texts: Sequence[str], seed: int) -> np.ndarray:
    """Word and character n-grams, reduced: float32 (texts, at most 300), rows of length 1 (0 for a text without any)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    common = 2 if len(texts) >= 200 else 1  # an n-gram that occurs once tells nothing about another text, but few texts share few
    union = make_union(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=common, token_pattern=r"\S+"),
                       TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, min_df=common))
    # An empty list of texts, or only empty ones, has no vocabulary; a mark at the end of each keeps scikit-learn from stopping there.
    counted = union.fit_transform([text.lower() + " \x1e" for text in texts])
    size = min(_DIMENSIONS, counted.shape[1] - 1, counted.shape[0] - 1)
    if size < 1:
        return counted.toarray().astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal texts have no variance to explain a share of
        made = TruncatedSVD(size, random_state=seed).fit_transform(counted)
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return (made / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _is_chinese(text: str) -> bool:
    return len(_CHINESE.findall(text)) * 4 >= len(text.strip()) > 0
