"""How good a model is at a task: the measures that each field of work publishes, by name.

`score(task, truth, predicted, …)` gives any of `METRICS`; the functions beneath take and give plain Python values. What exists in a
well-kept library comes from there: scikit-learn, scipy, sacrebleu, rouge-score, NLTK. Which metrics belong to which of GLUE's
tasks is said in `labkit.training.tasks.formats.glue`. Intervals and the measures of a scenario's fields are in `labkit.evaluation.metrics`.

All values are shares from 0 to 1, correlations from -1 to 1; BLEU and chrF too are given as shares, a hundredth of what is often printed.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.evaluation.metrics import CharacterTokenizer

if TYPE_CHECKING:
    import numpy as np

Span = tuple[str, int, int]  # type, first word, word behind the last
Values = dict[str, float]

_CHINESE_MARKS = "，。、；：？！“”‘’（）《》〈〉【】「」『』—…·～￥"
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Metric:
    """A measure: its titles for people by language, and which way is better."""

    titles: dict[str, str]
    higher_is_better: bool = True


def _titles(**names: tuple[str, str]) -> dict[str, Metric]:
    return {name: Metric({"en": en, "zh": zh}) for name, (en, zh) in names.items()}


_CLASSES = {"accuracy": ("Accuracy", "准确率"), "f1": ("F1", "F1"), "precision": ("Precision", "精确率"), "recall": ("Recall", "召回率"),
            "macro_f1": ("Macro F1", "宏平均F1"), "macro_precision": ("Macro precision", "宏平均精确率"),
            "macro_recall": ("Macro recall", "宏平均召回率"), "micro_f1": ("Micro F1", "微平均F1"),
            "micro_precision": ("Micro precision", "微平均精确率"), "micro_recall": ("Micro recall", "微平均召回率"),
            "weighted_f1": ("Weighted F1", "加权F1"), "weighted_precision": ("Weighted precision", "加权精确率"),
            "weighted_recall": ("Weighted recall", "加权召回率"),
            "matthews": ("Matthews correlation", "马修斯相关系数")}
# By task, as `TaskData.task` names it: the same name (f1) means another measure for another task.
METRICS: dict[str, dict[str, Metric]] = {
    "classify": _titles(**_CLASSES),
    "multi_label": _titles(micro_f1=("Micro F1", "微平均F1"), macro_f1=("Macro F1", "宏平均F1"),
                           weighted_f1=("Weighted F1", "加权F1"), exact_match=("All labels right", "全部标签正确")),
    "regress": {**_titles(pearson=("Pearson correlation", "皮尔逊相关"), spearman=("Spearman correlation", "斯皮尔曼相关")),
                "mean_absolute_error": Metric({"en": "Mean absolute error", "zh": "平均绝对误差"}, False),
                "mean_squared_error": Metric({"en": "Mean squared error", "zh": "均方误差"}, False)},
    "tag": _titles(entity_f1=("Entity F1", "实体F1"), entity_precision=("Entity precision", "实体精确率"),
                   entity_recall=("Entity recall", "实体召回率"), accuracy=("Accuracy of tags", "标签准确率")),
    "span": _titles(exact_match=("Exact match", "完全匹配"), f1=("F1 of words", "词F1"), has_answer_f1=("F1, answerable", "F1（有答案）"),
                    no_answer_accuracy=("Accuracy, not answerable", "准确率（无答案）")),
    "chat": _titles(exact_match=("Exact match", "完全匹配"), f1=("F1 of words", "词F1"), rouge_1=("ROUGE-1", "ROUGE-1"),
                    rouge_2=("ROUGE-2", "ROUGE-2"), rouge_l=("ROUGE-L", "ROUGE-L"), bleu=("BLEU", "BLEU"), chrf=("chrF", "chrF"),
                    meteor=("METEOR (exact and stem)", "METEOR（原词与词干）")),
    "embed": _titles(recall_at_1=("Recall at 1", "召回率@1"), recall_at_5=("Recall at 5", "召回率@5"),
                     recall_at_10=("Recall at 10", "召回率@10"), mean_reciprocal_rank=("Mean reciprocal rank", "平均倒数排名"),
                     spearman=("Spearman of the cosine", "余弦的斯皮尔曼相关")),
}


def score(task: str, truth: Sequence[Any], predicted: Sequence[Any], names: Sequence[str] = (),
          languages: Sequence[str] | None = None) -> Values:
    """Measures of a task's predictions.

    Args:
        task: classify (truth and predicted: numbers or names of labels), multi_label (lists of labels), regress (numbers), tag (lists of
            BIO tags), span (truth: lists of right answers, empty where there is none; predicted: texts, "" for no answer), chat (texts;
            truth may be a list of texts each).
        names: which of `METRICS[task]`; empty: all.
        languages: of span and chat, each row's; Chinese is measured by characters. Without it all is English.

    Raises:
        LabError: no such task or metric, nothing to measure, or not one prediction for each row.
    """
    if task not in METRICS or task == "embed":
        raise LabError(f"no measures for task {task!r} from truth and predictions; there are {', '.join(set(METRICS) - {'embed'})}")
    unknown = set(names) - set(METRICS[task])
    if unknown:
        raise LabError(f"task {task} has no metric {', '.join(sorted(unknown))}, only {', '.join(METRICS[task])}")
    _check(truth, predicted)
    names = names or tuple(METRICS[task])
    if task == "classify":
        found = classification(truth, predicted)
    elif task == "multi_label":
        found = multi_label(truth, predicted)
    elif task == "regress":
        found = regression(truth, predicted)
    elif task == "tag":
        found = entities(truth, predicted)
    elif task == "span":
        found = answers(truth, predicted, languages)
    else:
        found = texts(truth, predicted, names, languages)
    return {name: found[name] for name in names if name in found}


def _check(truth: Sequence[Any], predicted: Sequence[Any]) -> None:
    if len(truth) != len(predicted):
        raise LabError(f"{len(predicted)} predictions do not match {len(truth)} rows; predict these rows anew")
    if not len(truth):
        raise LabError("there are no rows to measure")


def classification(truth: Sequence[Any], predicted: Sequence[Any]) -> Values:
    """Accuracy, Matthews correlation, and precision, recall and F1 (scikit-learn's, a division by zero being 0).

    Macro means over the labels that occur in truth or predictions. `f1`, `precision` and `recall` are those of label 1, as GLUE reports
    them for MRPC and QQP, and are there only where every label is 0 or 1. The Matthews correlation of a constant is 0.
    """
    from sklearn import metrics

    truth, predicted = list(truth), list(predicted)
    constant = len(set(truth)) == 1 or len(set(predicted)) == 1
    found = {"accuracy": metrics.accuracy_score(truth, predicted),
             "matthews": 0.0 if constant else metrics.matthews_corrcoef(truth, predicted)}
    averages = ["macro", "micro", "weighted"]
    if set(truth) | set(predicted) <= {0, 1}:
        averages.append("binary")
    for average in averages:
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        name = "" if average == "binary" else f"{average}_"
        found |= {f"{name}precision": precision, f"{name}recall": recall, f"{name}f1": f1}
    return _floats(found)


def by_label(truth: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> dict[str, Values]:
    """Precision, recall, F1 and count (rows that have it) of each label; truth and predictions are numbers in `labels`."""
    from sklearn import metrics

    _check(truth, predicted)
    table = metrics.precision_recall_fscore_support(list(truth), list(predicted), labels=range(len(labels)), zero_division=0)
    return {label: _floats(dict(zip(("precision", "recall", "f1", "count"), column, strict=True)))
            for label, column in zip(labels, zip(*table, strict=True), strict=True)}


def multi_label(truth: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> Values:
    """Micro, macro and weighted F1 over the labels that occur, and the share of rows where the whole set is right."""
    from sklearn import metrics, preprocessing

    binary = preprocessing.MultiLabelBinarizer().fit([*truth, *predicted])
    a, b = binary.transform(truth), binary.transform(predicted)
    found = {"exact_match": sum(set(x) == set(y) for x, y in zip(truth, predicted, strict=True)) / len(truth)}
    for average in ("micro", "macro", "weighted"):
        found[f"{average}_f1"] = metrics.f1_score(a, b, average=average, zero_division=0) if a.shape[1] else 0.0
    return _floats(found)


def regression(truth: Sequence[float], predicted: Sequence[float]) -> Values:
    """Pearson's and Spearman's correlation (0 where either side is constant, for which they are not defined) and the mean errors."""
    import numpy as np
    from scipy import stats

    a, b = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    varied = len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    return _floats({"pearson": stats.pearsonr(a, b).statistic if varied else 0.0,
                    "spearman": stats.spearmanr(a, b).statistic if varied else 0.0,
                    "mean_absolute_error": np.abs(a - b).mean(), "mean_squared_error": np.square(a - b).mean()})


def entities(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Values:
    """Precision, recall and F1 over all entities of all sentences: one is right where type, first and last word are. BIO, read strictly: an
    I- that goes on with nothing begins nothing (seqeval's strict mode with IOB2). `accuracy` is over tags.

    Raises:
        LabError: a sentence has other numbers of true and predicted tags.
    """
    from labkit.training.tasks.alignment import spans

    right = guessed = real = words = same = 0
    for row, (true, guess) in enumerate(zip(truth, predicted, strict=True)):
        if len(true) != len(guess):
            raise LabError(f"sentence {row} has {len(true)} true and {len(guess)} predicted tags")
        a, b = set(spans(true)), set(spans(guess))
        right, guessed, real = right + len(a & b), guessed + len(b), real + len(a)
        words, same = words + len(true), same + sum(x == y for x, y in zip(true, guess, strict=True))
    return {"entity_precision": right / guessed if guessed else 0.0, "entity_recall": right / real if real else 0.0,
            "entity_f1": 2 * right / (guessed + real) if guessed + real else 0.0, "accuracy": same / words if words else 0.0}


def normalise_answer(text: str, language: str = "en") -> str:
    """As SQuAD's evaluation script has it: lower case, without punctuation and articles, single spaces; Chinese also without its marks."""
    text = text.lower()
    marks = string.punctuation + (_CHINESE_MARKS if language == "zh" else "")
    text = "".join(character for character in text if character not in marks)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(right: Sequence[str], predicted: str, language: str = "en") -> float:
    """1.0 where the answer equals one of the right ones, normalised; where there is none, where it is empty."""
    wanted = _wanted(right, language)
    return float(normalise_answer(predicted, language) in {normalise_answer(answer, language) for answer in wanted})


def answer_f1(right: Sequence[str], predicted: str, language: str = "en") -> float:
    """The best F1 of the answer's words with those of a right one, as SQuAD's script counts them; Chinese: of its characters."""
    return max(_overlap(_words(answer, language), _words(predicted, language)) for answer in _wanted(right, language))


def answers(truth: Sequence[Sequence[str]], predicted: Sequence[str], languages: Sequence[str] | None = None) -> Values:
    """SQuAD's exact match and F1 over all questions; with questions that have no answer, also F1 over the others (`has_answer_f1`) and the
    share of these that were left unanswered (`no_answer_accuracy`), as version 2.0 reports them."""
    languages = languages or ["en"] * len(truth)
    rows = list(zip(truth, predicted, languages, strict=True))
    f1 = [answer_f1(*row) for row in rows]
    found = {"exact_match": _mean([exact_match(*row) for row in rows]), "f1": _mean(f1)}
    impossible = [not _has_answer(right, language) for right, _, language in rows]
    if any(impossible):
        found["no_answer_accuracy"] = _mean([value for value, none in zip(f1, impossible, strict=True) if none])
        if not all(impossible):
            found["has_answer_f1"] = _mean([value for value, none in zip(f1, impossible, strict=True) if not none])
    return found


def best_threshold(truth: Sequence[Sequence[str]], answered: Sequence[str], no_answer: Sequence[float],
                   languages: Sequence[str] | None = None) -> tuple[float, float]:
    """(threshold, F1 there): above which score of no answer a question is best left unanswered, for the highest F1 over these questions
    (SQuAD 2.0's script, `find_best_thresh`). To be found on validation questions, not on those that are reported.

    Args:
        answered: the best answer that is not empty.
        no_answer: the score that there is none, such as `windows.Answer.no_answer`.
    """
    _check(truth, answered)
    languages = languages or ["en"] * len(truth)
    rows = list(zip(truth, answered, languages, strict=True))
    none = [float(not _has_answer(right, language)) for right, _, language in rows]
    gain = [answer_f1(*row) - without for row, without in zip(rows, none, strict=True)]
    total = best = sum(none)
    threshold = min(no_answer) - 1.0  # nothing is answered
    order = sorted(range(len(rows)), key=lambda row: no_answer[row])
    for place, row in enumerate(order):
        total += gain[row]
        is_last_of_equals = place + 1 == len(order) or no_answer[order[place + 1]] > no_answer[row]
        if is_last_of_equals and total > best:
            best, threshold = total, no_answer[row]
    return float(threshold), best / len(rows)


def texts(truth: Sequence[str | Sequence[str]], predicted: Sequence[str], names: Sequence[str],
          languages: Sequence[str] | None = None) -> Values:
    """Measures of written texts; where several texts are right, the best counts (BLEU and chrF take them all as references).

    BLEU and chrF are over all rows of a language at once (sacrebleu; Chinese with its `zh` tokenizer, by characters), and with more than
    one language the mean weighed by rows; the others are means over rows. ROUGE (Lin 2004, rouge-score) is F1, without stemming; METEOR
    (Banerjee and Lavie 2005, NLTK) sees equal words and equal stems: its third stage, synonyms, needs WordNet, which does not come with
    the lab. Where a word comes twice, NLTK pairs the last ones first, not those with the fewest crossings as the paper has it.
    """
    languages = languages or ["en"] * len(truth)
    rights = [[right] if isinstance(right, str) else list(right) for right in truth]
    rows = list(zip(rights, predicted, languages, strict=True))
    single: dict[str, Callable[[list[str], str, str], float]] = {"exact_match": exact_match, "f1": answer_f1, "meteor": _meteor}
    found = {name: _mean([measure(*row) for row in rows]) for name, measure in single.items() if name in names}
    if any(name.startswith("rouge") for name in names):
        found |= _rouge(rows)
    for name in ("bleu", "chrf"):
        if name in names:
            found[name] = sum(_corpus(name, [row for row in rows if row[2] == language], language) * languages.count(language)
                              for language in dict.fromkeys(languages)) / len(rows)
    return found


def _rouge(rows: list[tuple[list[str], str, str]]) -> Values:
    from rouge_score import rouge_scorer

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scorer = rouge_scorer.RougeScorer(list(kinds.values()), tokenizer=CharacterTokenizer())
    scored = [[scorer.score(right, predicted) for right in rights] for rights, predicted, _ in rows]
    return {name: _mean([max(each[kind].fmeasure for each in row) for row in scored]) for name, kind in kinds.items()}


def _corpus(name: str, rows: list[tuple[list[str], str, str]], language: str) -> float:
    from sacrebleu.metrics import BLEU, CHRF

    most = max(len(rights) for rights, _, _ in rows)
    references = [[rights[place] if place < len(rights) else None for rights, _, _ in rows] for place in range(most)]
    measure = BLEU(tokenize="zh" if language == "zh" else "13a") if name == "bleu" else CHRF()
    return measure.corpus_score([predicted for _, predicted, _ in rows], references).score / 100


class _NoSynonyms:
    """Stands where NLTK wants WordNet: a dictionary in which no word has synonyms."""

    def synsets(self, word: str) -> list:
        return []


def _meteor(rights: list[str], predicted: str, language: str) -> float:
    from nltk.translate.meteor_score import meteor_score

    tokens = CharacterTokenizer().tokenize
    return meteor_score([tokens(right) for right in rights], tokens(predicted), wordnet=_NoSynonyms())


def _has_answer(right: Sequence[str], language: str) -> bool:
    return any(normalise_answer(answer, language) for answer in right)


def _wanted(right: Sequence[str], language: str) -> list[str]:
    """The right answers; "" where there is none (or only such as normalise to nothing, as the script has it)."""
    return [answer for answer in right if normalise_answer(answer, language)] or [""]


def _words(text: str, language: str) -> list[str]:
    text = normalise_answer(text, language)
    return CharacterTokenizer().tokenize(text) if language == "zh" else text.split()


def _overlap(wanted: list[str], given: list[str]) -> float:
    if not wanted or not given:
        return float(wanted == given)
    common = sum((Counter(wanted) & Counter(given)).values())
    return 2 * common / (len(wanted) + len(given))


def retrieval(queries: "np.ndarray", candidates: "np.ndarray", right: Sequence[int | Sequence[int]],
              cutoffs: Sequence[int] = (1, 5, 10)) -> Values:
    """How high the right candidates stand when all are ordered by cosine similarity to a query.

    Recall at k is the share of queries with a right candidate among the first k; the reciprocal rank is 1 / place of the first right one. A
    tie counts against the right one, so that equal embeddings do not look good.

    Args:
        queries, candidates: float (queries, hidden) and (candidates, hidden); a zero vector is alike to nothing.
        right: for each query the row or rows of its right candidates.

    Raises:
        LabError: a query has no right candidate, or there is not one entry for each query.
    """
    import numpy as np

    _check(right, queries)
    similarity = _unit(queries) @ _unit(candidates).T  # (queries, candidates)
    ranks = []
    for row, wanted in enumerate(right):
        places = [wanted] if isinstance(wanted, (int, np.integer)) else list(wanted)
        if not places:
            raise LabError(f"query {row} has no right candidate")
        others = np.delete(similarity[row], places)
        ranks.append(1 + int((others >= similarity[row, places].max()).sum()))
    ranks = np.array(ranks)
    return _floats({**{f"recall_at_{cutoff}": (ranks <= cutoff).mean() for cutoff in cutoffs}, "mean_reciprocal_rank": (1 / ranks).mean()})


def similarity(first: "np.ndarray", second: "np.ndarray", truth: Sequence[float]) -> Values:
    """Spearman's (and Pearson's) correlation of the cosine of two embeddings, float (pairs, hidden), with the true similarity: how
    sentence embeddings are measured on STS (Reimers and Gurevych 2019, section 4.1, https://arxiv.org/abs/1908.10084)."""
    _check(truth, first)
    found = regression(truth, (_unit(first) * _unit(second)).sum(1))
    return {name: found[name] for name in ("spearman", "pearson")}


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    import numpy as np

    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _floats(values: dict[str, Any]) -> Values:
    return {name: float(value) for name, value in values.items()}
