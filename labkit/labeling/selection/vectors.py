"""Embeddings of records for choosing: sentence embeddings, and for Chinese hashed character n-grams.

The embedded encoder knows hardly any Chinese character, so that Chinese texts all look alike to it. One to three neighbouring characters
tell topics apart well enough to group by.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

DIMENSIONS = 384  # the same as the encoder's
_BUCKETS = 2**16
_DENSITY = 0.1  # each bucket goes to about 38 of 384 dimensions; with few, short texts of few n-grams would share none


def of_records(records: "Dataset", *, encoder: str | None = None) -> np.ndarray:
    """An embedding of each record's conversation: float32 (records, dimensions), rows of length 1.

    English records get the embedded encoder's 384 dimensions, Chinese ones `hashed_ngrams`; where both occur, each language has 384 of 768
    dimensions for itself, so that records of two languages are never similar. With an `encoder` of one's own (a folder, or a name on the
    hub; see `labkit.data.duplicates.embed`) all records go through that.
    """
    from labkit.data import duplicates

    texts = duplicates.conversations(records)
    if encoder is not None:
        return duplicates.embed(texts, encoder=encoder)
    chinese = np.array([language == "zh" for language in records["language"][:]], bool)
    made = np.zeros((len(texts), 2 * DIMENSIONS), np.float32)
    if not chinese.all():
        made[~chinese, :DIMENSIONS] = duplicates.embed([text for text, is_chinese in zip(texts, chinese, strict=True) if not is_chinese])
    if chinese.any():
        made[chinese, DIMENSIONS:] = hashed_ngrams([text for text, is_chinese in zip(texts, chinese, strict=True) if is_chinese])
    if chinese.all():
        return made[:, DIMENSIONS:]
    return made if chinese.any() else made[:, :DIMENSIONS]


def hashed_ngrams(texts: Sequence[str], *, dimensions: int = DIMENSIONS) -> np.ndarray:
    """Character n-grams (one to three) as vectors of length 1: float32 (texts, dimensions); a text without characters is all zeros.

    Counts are hashed into 65,536 buckets, weighted by their logarithm and by how rare the bucket is among these texts, and projected at
    random with fixed numbers (Achlioptas 2003): a cosine is kept up to about 1 / sqrt(dimensions), 0.05 for 384. Since rarity is that
    among the texts given, embed all that are to be compared together.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.random_projection import SparseRandomProjection

    if not len(texts):
        return np.zeros((0, dimensions), np.float32)
    counts = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=_BUCKETS, norm=None, alternate_sign=False)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts.transform(texts))
    projection = SparseRandomProjection(dimensions, density=_DENSITY, dense_output=True, random_state=0)
    made = projection.fit_transform(weighted).astype(np.float32)
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return made / np.where(lengths > 0, lengths, 1)
