"""The sets of word pairs that texts are compared by, their MinHash bands, and the exact similarity of two sets.

A shingle is a pair of neighbouring units (the first unit also stands alone); a unit is a word of letters and digits, or one character
where words have no spaces between them (Chinese, Japanese, Thai, emoji). Case, width, punctuation and white space do not count.
Everything is columns in numpy and fixed constants: the same on every machine. This module knows nothing about clusters.
"""

import functools
import hashlib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError

_HASHES = 128  # signature values at most; more of them allow longer bands, hence fewer candidates that fail
_SURE = 4.5  # standard deviations: of pairs at the threshold 3 in a million agree in fewer values of their signatures, of others fewer
_MISSED = 0.001  # chance that two texts exactly at the threshold share no band
_CHUNK = 250_000  # characters worked on at once: the arrays stay in the processor's cache
_LONGEST = 1_000_000  # characters of a text that are compared
_PAIRS, _AT_ONCE = 2**15, 2**21  # pairs and shingles compared at once; for the pairs a number of 16 bits is there
_LOW = np.uint64(2**48 - 1)  # a shingle keeps 48 bits, so that a number of 16 bits fits in front of it for sorting

_SEPARATOR, _LETTER, _SINGLE = 0, 1, 2  # what a character is: no part of a unit, part of a word, a unit of its own
_SINGLES = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
            (0xF900, 0xFAFF))  # Thai and Lao, Burmese, Khmer, kana, Han


@dataclass(frozen=True)
class Shingles:
    """The shingle sets of texts, and what is compared of them first.

    `values` uint64 (shingles,) holds each text's set in ascending order, text after text; `starts` int64 (texts + 1,) where each
    begins; `digests` uint64 (texts,) one hash a set; `bands` uint64 (bands, texts) one hash for each band of the signature; `signatures`
    uint8 (texts, values of the signature) the last byte of each of its values.
    """

    values: np.ndarray
    starts: np.ndarray
    digests: np.ndarray
    bands: np.ndarray
    signatures: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.starts)


def of(texts: Sequence[str], *, threshold: float, digits: bool = True, processes: int = 1) -> Shingles:
    """The shingle sets of one text or more, with bands for this threshold. A text without any letter or digit is one shingle, its
    characters; of a text longer than a million characters only those are looked at.

    Raises:
        LabError: the threshold is out of range.
    """
    count, length = bands_for(threshold)
    work = functools.partial(_chunk_shingles, digits=digits, bands=count, length=length)
    if processes > 1:
        with ThreadPoolExecutor(processes) as pool:
            parts = list(pool.map(work, _chunks(texts)))
    else:
        parts = [work(chunk) for chunk in _chunks(texts)]
    values, sizes, digests, bands, signatures = ([part[place] for part in parts] for place in range(5))
    return Shingles(np.concatenate(values), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]), np.concatenate(digests),
                    np.concatenate(bands, axis=1), np.concatenate(signatures))


def bands_for(threshold: float) -> tuple[int, int]:
    """How many bands of how many signature values: the longest bands for which two texts at the threshold share none with a chance
    of at most 0.1% while the signature has at most 128 values. A pair of similarity s shares a band with 1 − (1 − s^length)^count.

    Raises:
        LabError: the threshold is out of range.
    """
    check_threshold(threshold)
    if threshold == 1:  # equal sets are found by their digests; one band is enough
        return 1, 1
    for length in range(16, 0, -1):
        count = math.ceil(math.log(_MISSED) / math.log1p(-(threshold**length)))
        if count * length <= _HASHES:
            return count, length
    return _HASHES, 1


def check_threshold(threshold: float) -> None:
    """LabError where the threshold is out of range."""
    if not 0 < threshold <= 1:
        raise LabError(f"the threshold for duplicates must be above 0 and at most 1, not {threshold:g}")


def similar(left_sets: Shingles, left: np.ndarray, right_sets: Shingles, right: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each pair's Jaccard similarity is at least the threshold: bool (pairs,). A pair whose signatures agree in far too few values
    is not compared further (see `_SURE`)."""
    left_sizes, right_sizes = left_sets.sizes[left], right_sets.sizes[right]
    possible = np.flatnonzero(np.minimum(left_sizes, right_sizes) >= threshold * np.maximum(left_sizes, right_sizes) - 1e-9)
    possible = possible[_agree(left_sets, left[possible], right_sets, right[possible], threshold)]
    result = np.zeros(len(left), bool)
    before = np.cumsum(left_sizes[possible] + right_sizes[possible])
    start = 0
    while start < len(possible):
        room = before[start] + _AT_ONCE
        part = possible[start:min(start + _PAIRS, max(start + 1, int(np.searchsorted(before, room))))]
        start += len(part)
        both = _intersections(left_sets, left[part], right_sets, right[part])
        union = left_sizes[part] + right_sizes[part] - both
        result[part] = both >= threshold * union - 1e-9
    return result


def _agree(left_sets: Shingles, left: np.ndarray, right_sets: Shingles, right: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each pair's signatures agree in as many values as they would at the threshold, chance allowed for: bool (pairs,). The share
    of equal values is an estimate of the similarity without bias."""
    count = left_sets.signatures.shape[1]
    least = count * (threshold - _SURE * math.sqrt(threshold * (1 - threshold) / count)) - 1e-9
    parts = [slice(start, start + _PAIRS) for start in range(0, len(left), _PAIRS)]
    equal = [(left_sets.signatures[left[part]] == right_sets.signatures[right[part]]).sum(axis=1, dtype=np.uint8) for part in parts]
    return np.concatenate(equal) >= least if equal else np.zeros(0, bool)


def _intersections(left_sets: Shingles, left: np.ndarray, right_sets: Shingles, right: np.ndarray) -> np.ndarray:
    """How many shingles each pair has in common: int64 (pairs,). Both sets of a pair are put behind the pair's number and sorted: what
    is in both stands twice."""
    keys = np.concatenate([_gathered(left_sets, left), _gathered(right_sets, right)])
    keys.sort()
    twice = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((twice >> np.uint64(48)).astype(np.int64), minlength=len(left))


def _gathered(sets: Shingles, chosen: np.ndarray) -> np.ndarray:
    """The shingles of the chosen sets, each behind the place of its set among them (16 bits): uint64 (shingles,)."""
    sizes = sets.sizes[chosen]
    owner = np.repeat(np.arange(len(chosen)), sizes)
    index = np.arange(len(owner)) + (sets.starts[chosen] - (np.cumsum(sizes) - sizes))[owner]
    return sets.values[index] | owner.astype(np.uint64) << np.uint64(48)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK or len(chunk) == 4096:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _chunk_shingles(texts: list[str], digits: bool, bands: int, length: int) -> tuple[np.ndarray, ...]:
    """`values`, sizes, `digests`, `bands` and `signatures` of `Shingles` for at most 4096 texts."""
    owner, units = _units(texts, digits)
    before = np.concatenate([np.zeros(1, np.uint64), units[:-1]])
    before[np.flatnonzero(np.diff(owner, prepend=-1))] = 0  # a text's first unit follows nothing
    pairs = _mixed(units + before * np.uint64(0x9E3779B97F4A7C15))
    bare = np.flatnonzero(np.bincount(owner, minlength=len(texts)) == 0)
    if len(bare):
        owner = np.concatenate([owner, bare])
        pairs = np.concatenate([pairs, np.array([_digest(texts[index]) for index in bare], np.uint64)])
    keys = np.sort(owner.astype(np.uint64) << np.uint64(48) | pairs >> np.uint64(16))
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    values = keys & _LOW
    sizes = np.bincount((keys >> np.uint64(48)).astype(np.int64), minlength=len(texts))
    starts = np.cumsum(sizes) - sizes
    digests = _mixed(np.add.reduceat(_mixed(values), starts) + sizes.astype(np.uint64))
    return values, sizes, digests, *_bands(values, starts, bands, length)


def _units(texts: list[str], digits: bool) -> tuple[np.ndarray, np.ndarray]:
    """The units of all texts in order: int64 (units,) whose text each belongs to, uint64 (units,) its hash."""
    texts = [text if text.isascii() else unicodedata.normalize("NFC", text) for text in (text[:_LONGEST] for text in texts)]
    points = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le", "surrogatepass"), "<u4")
    ends = np.cumsum([len(text) + 1 for text in texts])  # one behind the line feed that ends each text
    kinds, folded_by_point = _tables()
    basic = np.minimum(points, 0xFFFF)
    kind, folded = kinds[basic], folded_by_point[basic]
    beyond = points > 0xFFFF
    if beyond.any():
        kind[beyond], folded[beyond] = _SINGLE, points[beyond]
    if not digits:  # a run of digits becomes one nought
        digit = (folded >= ord("0")) & (folded <= ord("9"))
        folded[digit] = ord("0")
        stays = ~digit
        stays[0] = True
        stays[1:] |= ~digit[:-1]
        kind, folded, ends = kind[stays], folded[stays], np.cumsum(stays)[ends - 1]
    begins = kind == _LETTER
    begins[1:] &= kind[:-1] != _LETTER
    begins |= kind == _SINGLE
    at = np.flatnonzero(begins)
    if not len(at):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    # Each unit is a polynomial in a fixed odd number, modulo 2**64; separators are zeros behind it.
    gaps = np.diff(at, append=len(folded))
    power = np.multiply.accumulate(np.full(int(gaps.max()), 0x5851F42D4C957F2D, np.uint64))
    exponent = np.arange(at[0], len(folded)) - np.repeat(at, gaps)
    units = np.add.reduceat(folded[at[0]:] * power[exponent], at - at[0])
    return np.searchsorted(ends, at, side="right"), _mixed(units)


def _bands(values: np.ndarray, starts: np.ndarray, bands: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """One hash for each band of each set's MinHash signature: uint64 (bands, sets); and the last byte of each of its values: uint8
    (sets, values).

    The permutations are multiplications by odd numbers modulo 2**32 of values that are mixed already.
    """
    low = _mixed(values).astype(np.uint32)
    product = np.empty_like(low)
    smallest = np.empty(len(starts), np.uint32)
    result = np.empty((bands, len(starts)), np.uint64)
    signatures = np.empty((bands * length, len(starts)), np.uint8)
    multipliers = _multipliers()
    for band in range(bands):
        key = np.full(len(starts), band, np.uint64)
        for place in range(length):
            np.multiply(low, multipliers[band * length + place], out=product)
            np.minimum.reduceat(product, starts, out=smallest)
            key *= np.uint64(0xD1342543DE82EF95)
            key += smallest
            signatures[band * length + place] = smallest & np.uint32(0xFF)
        result[band] = _mixed(key)
    return result, np.ascontiguousarray(signatures.T)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Well mixed bits of uint64 (the finaliser of SplitMix64: Steele, Lea and Flood 2014); 0 stays 0."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@functools.cache
def _multipliers() -> np.ndarray:
    """Odd numbers that stand for permutations: uint32 (128,)."""
    return _mixed(np.arange(1, _HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint32) | np.uint32(1)


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each character of the basic plane its kind, uint8 (65536,), and the character it counts as, uint32 (65536,): compatibility
    forms (width) and case are folded; where that gives several characters the first one counts. Only letters, marks and digits count,
    without the marks that choose a glyph (variation selectors)."""
    kinds, folded = np.zeros(65536, np.uint8), np.zeros(65536, np.uint32)
    for point in range(65536):
        plain = unicodedata.normalize("NFKC", chr(point)).casefold() if not 0xD800 <= point <= 0xDFFF else chr(point)
        plain = plain.strip()[:1]
        if plain and unicodedata.category(plain)[0] in "LMN" and not 0xFE00 <= point <= 0xFE0F:
            single = any(low <= ord(plain) <= high for low, high in _SINGLES)
            kinds[point], folded[point] = _SINGLE if single else _LETTER, ord(plain)
    return kinds, folded
