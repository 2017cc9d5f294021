"""Texts near and far: what embeddings learn from. Pairs and triples that belong together, texts with labels, or pairs with a similarity.

| columns | learned by | measured by |
|---|---|---|
| `anchor`, `positive`, maybe `negative` | `info_nce`; with negatives also `triplet` | where the positive stands among all held-out texts |
| `text`, `label` | `supervised_contrastive`, `triplet`, `cosine_pairs` | where a text of the same label stands |
| `text`, `text_pair`, `label` (a number) | `cosine_pairs` | Spearman's correlation of cosine and similarity |
"""

from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.training.tasks import texts
from labkit.training.tasks.task import Example, Head, Judged, Outputs, Part

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

HEAD = "embedding"
_CUTOFFS = (1, 5, 10)


def heads() -> tuple[Head, ...]:
    """A head without outputs: what is learned is the trunk."""
    return (Head(HEAD, "none"),)


def kind_of(rows: "Dataset") -> str:
    """`pairs`, `labels` or `similarity`; LabError where it is none of them."""
    columns = set(rows.column_names)
    if {"anchor", "positive"} <= columns:
        return "pairs"
    if {"text", "text_pair", "label"} <= columns and rows.features["label"].dtype.startswith("float"):
        return "similarity"
    if {"text", "label"} <= columns and "text_pair" not in columns and str(getattr(rows.features["label"], "dtype", "")).startswith("int"):
        return "labels"
    raise LabError(f"embeddings cannot learn from the columns {', '.join(sorted(columns))}; they need anchor and positive, text and label, "
                   "or two texts and their similarity")


def check(kind: str, objective: str, negatives: bool) -> None:
    """LabError where the objective cannot learn from this kind of data."""
    fits = {"pairs": ("info_nce", "triplet") if negatives else ("info_nce",),
            "labels": ("supervised_contrastive", "triplet", "cosine_pairs"), "similarity": ("cosine_pairs",)}[kind]
    if objective not in fits:
        raise LabError(f"recipe: objective {objective!r} does not fit this data ({kind}); choose {' or '.join(fits)}")


def similarity_range(rows: "Dataset") -> tuple[float, float]:
    """The lowest and the highest similarity of a split, which become 0 and 1."""
    values = rows["label"][:]
    return min(values), max(values)


def learned(rows: "Dataset", split: str, tokenizer: Any, max_tokens: int) -> Part:
    """The training split: each anchor, text or first text is an example, what belongs to it its `others`."""
    kind, ids = kind_of(rows), _ids(rows, split)
    cut: list[str] = []
    coded = lambda column: _coded(tokenizer, rows[column][:], ids, max_tokens, cut)  # noqa: E731
    if kind == "pairs":
        columns = [coded(column) for column in ("anchor", "positive", "negative") if column in rows.column_names]
        examples = [Example(first, (0,) * len(first), {}, row, others=tuple(others))
                    for row, (first, *others) in enumerate(zip(*columns, strict=True))]
    elif kind == "labels":
        examples = [Example(tokens, (0,) * len(tokens), {HEAD: label}, row)
                    for row, (tokens, label) in enumerate(zip(coded("text"), rows["label"][:], strict=True))]
    else:
        low, high = similarity_range(rows)
        examples = [Example(first, (0,) * len(first), {HEAD: (value - low) / ((high - low) or 1.0)}, row, others=(second,))
                    for row, (first, second, value) in enumerate(zip(coded("text"), coded("text_pair"), rows["label"][:], strict=True))]
    cut = list(dict.fromkeys(cut))
    return Part(len(rows), examples, ids, _nothing, _nothing, None, cut, texts.cut_warnings(cut, len(rows), tokenizer, max_tokens))


def measured(rows: "Dataset", split: str, tokenizer: Any, max_tokens: int) -> Part:
    """A held-out split: its examples are all texts that are to be embedded, once each where they are searched."""
    kind, ids = kind_of(rows), _ids(rows, split)
    cut: list[str] = []
    coded = lambda said, names: [Example(tokens, (0,) * len(tokens), {}, row)  # noqa: E731
                                 for row, tokens in enumerate(_coded(tokenizer, said, names, max_tokens, cut))]
    columns = rows.column_names
    languages = rows["language"][:] if "language" in columns else None
    if kind == "similarity":
        examples = coded(rows["text"][:] + rows["text_pair"][:], ids * 2)
        return _part(rows, ids, examples, cut, tokenizer, max_tokens, *_by_similarity(rows, ids))
    if kind == "pairs":
        queries, right = rows["anchor"][:], rows["positive"][:]
        candidates = list(dict.fromkeys(right + (rows["negative"][:] if "negative" in columns else [])))
        place = {text: number for number, text in enumerate(candidates)}
        wanted: list[list[int]] = [[place[text]] for text in right]
        own = list(range(len(queries)))
    else:
        own, others = _halves(rows["label"][:])
        said = rows["text"][:]
        queries, candidates = [said[row] for row in own], [said[row] for row in others]
        labels = rows["label"][:]
        wanted = [[number for number, other in enumerate(others) if labels[other] == labels[row]] for row in own]
    names = [ids[row] for row in own]
    examples = coded(queries + candidates, names + [f"{split}, a text to be found"] * len(candidates))
    return _part(rows, names, examples, cut, tokenizer, max_tokens,
                 *_by_search(names, queries, candidates, wanted, None if languages is None else [languages[row] for row in own]))


def _part(rows, ids, examples, cut, tokenizer, max_tokens, score, judge) -> Part:
    cut = list(dict.fromkeys(cut))
    return Part(len(rows), examples, ids, score, judge, None, cut, texts.cut_warnings(cut, len(rows), tokenizer, max_tokens))


def _by_similarity(rows: "Dataset", ids: list[str]):
    truth = rows["label"][:]

    def cosines(outputs: Outputs) -> list[float]:
        import numpy as np

        unit = _unit(np.stack(outputs[""]))
        return (unit[: len(ids)] * unit[len(ids) :]).sum(1).tolist()

    def score(outputs: Outputs) -> dict[str, float]:
        from labkit.evaluation import task_metrics

        return task_metrics.score("regress", truth, cosines(outputs), ("spearman", "pearson"))

    return score, lambda outputs: Judged("regress", ids, truth, cosines(outputs), ids)


def _by_search(ids: list[str], queries: list[str], candidates: list[str], wanted: list[list[int]], languages: list[str] | None):
    def halves(outputs: Outputs) -> "tuple[np.ndarray, np.ndarray]":
        import numpy as np

        whole = np.stack(outputs[""])
        return whole[: len(queries)], whole[len(queries) :]

    def score(outputs: Outputs) -> dict[str, float]:
        from labkit.evaluation import task_metrics

        return task_metrics.retrieval(*halves(outputs), wanted, _CUTOFFS) if queries else {}

    def judge(outputs: Outputs) -> Judged:
        from labkit.evaluation import task_metrics

        own, others = halves(outputs)
        others = _unit(others).astype("float32")
        ranks = [round(1 / task_metrics.retrieval(query[None], others, [right])["mean_reciprocal_rank"])
                 for query, right in zip(own, wanted, strict=True)]
        return Judged("ranks", ids, [1] * len(ids), ranks, ids, languages)

    return score, judge


def _halves(labels: list[int]) -> tuple[list[int], list[int]]:
    """Rows that search and rows that are found: of each label every second row is one that can be found, the first of them all; labels with
    a single row are only there to be mistaken for others."""
    seen: dict[int, int] = {}
    own, others = [], []
    for row, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        (others if seen[label] % 2 else own).append(row)
    return own, others


def _coded(tokenizer: Any, said: list[str], ids: list[str], max_tokens: int, cut: list[str]) -> list[tuple[int, ...]]:
    limit = min(max_tokens, texts.limit_of(tokenizer))
    long = tokenizer(said, truncation=False, verbose=False)["input_ids"] if said else []
    cut += [identity for identity, tokens in zip(ids, long, strict=True) if len(tokens) > limit]
    short = tokenizer(said, truncation=True, max_length=limit)["input_ids"] if said else []
    return [tuple(tokens) for tokens in short]


def _ids(rows: "Dataset", split: str) -> list[str]:
    return [f"{split}-{number}" for number in range(1, len(rows) + 1)]


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    import numpy as np

    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _nothing(*given: Any) -> Any:
    raise AssertionError("a split to learn from is not measured")
