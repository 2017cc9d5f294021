"""What a classifier without a language model reaches on the label fields: TF-IDF with logistic regression.

The yardstick that a fine-tuned model should pass: words and word pairs for English, one to three characters for Chinese,
weighted by TF-IDF, then a logistic regression (scikit-learn, C = 10), one for each label field and language.
"""

from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.scenarios import Scenario

if TYPE_CHECKING:
    from datasets import Dataset

_PIECES = {"en": {"analyzer": "word", "ngram_range": (1, 2)}, "zh": {"analyzer": "char", "ngram_range": (1, 3)}}


def tfidf(train: "Dataset", records: "Dataset", scenario: Scenario) -> list[dict[str, Any]]:
    """Learn the label fields from `train`, predict them for `records`: rows `id`, `text` (empty), `answer`, `complete`.

    Only label fields are in the answers. Where `train` has no row with a field in a record's language, the answer lacks it.

    Raises:
        LabError: `train` is empty.
    """
    if not len(train):
        raise LabError("TF-IDF has no training records to learn from")
    rows = [{"id": identity, "text": "", "answer": {}, "complete": False} for identity in records["id"]]
    for language in sorted(set(records["language"])):
        wanted = [row for row, value in enumerate(records["language"]) if value == language]
        texts = [_text(records[row]) for row in wanted]
        known = [record for record in train if record["language"] == language]
        for field in scenario.label_fields:
            labelled = [(_text(record), record["answer"][field.name]) for record in known if field.name in record["answer"]]
            if labelled:
                for row, label in zip(wanted, _classify(language, labelled, texts), strict=True):
                    rows[row]["answer"][field.name] = label
    for row in rows:
        row["complete"] = all(field.name in row["answer"] for field in scenario.fields)
    return rows


def _classify(language: str, labelled: list[tuple[str, str]], texts: list[str]) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    known, labels = [text for text, _ in labelled], [label for _, label in labelled]
    if len(set(labels)) == 1:
        return labels[:1] * len(texts)
    model = make_pipeline(TfidfVectorizer(**_PIECES[language]), LogisticRegression(C=10, max_iter=2000))
    return [str(label) for label in model.fit(known, labels).predict(texts)]


def _text(record: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in record["messages"] if message["role"] == "user")
