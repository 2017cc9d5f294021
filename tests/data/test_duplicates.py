"""Texts that say the same are found, all of them and nothing else, whatever their order."""

import random
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import duplicates, shingles
from labkit.errors import LabError

TEXT = st.lists(st.sampled_from(["card", "lost", "my", "the", "7", "卡", "丢", "了"]), max_size=9).map(" ".join)


def pairs_of(text):
    """The shingle set in plain Python: neighbouring units, the first one behind nothing."""
    units = re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", text.lower())
    return set(zip(["", *units], units, strict=False)) or {text.strip()}


def jaccard(left, right):
    return len(pairs_of(left) & pairs_of(right)) / len(pairs_of(left) | pairs_of(right))


def components(texts, threshold):
    """For each text the first one that it is connected with, by comparing all with all."""
    first = list(range(len(texts)))
    for right in range(len(texts)):
        for left in range(right):
            if jaccard(texts[left], texts[right]) >= threshold:
                low, high = sorted((first[left], first[right]))
                first = [low if number == high else number for number in first]
    return first


def same_partition(left, right):
    return len(set(zip(left, right, strict=True))) == len(set(left)) == len(set(right))


def words(draw, count):
    return ["".join(draw.choices("bcdfglmnprst", k=3)) + draw.choice("aeiou") + str(draw.randrange(30)) for _ in range(count)]


def planted(rows, seed, chinese=False):
    """Texts of 40 words (or characters), every fifth one a copy of an earlier one with a word replaced, put in or taken out; families."""
    draw = random.Random(seed)
    vocabulary = [chr(0x4E00 + number) for number in range(3000)] if chinese else words(draw, 5000)
    texts, families = [], []
    for row in range(rows):
        if row % 5 == 4:
            family = families[draw.randrange(row)]
            units, place = list(texts[family]), draw.randrange(40)
            change = draw.choice(("replace", "insert", "remove"))
            units[place:place + (change != "insert")] = [] if change == "remove" else [draw.choice(vocabulary)]
            texts.append(units)
            families.append(family)
        else:
            texts.append(draw.choices(vocabulary, k=40))
            families.append(row)
    return [("" if chinese else " ").join(units) for units in texts], families


@pytest.mark.parametrize("chinese", [False, True])
def test_planted_near_copies_are_found_and_nothing_else(chinese):
    texts, families = planted(3000, 1, chinese)
    # One edit in forty leaves at least 38 of 42 pairs; the copy of a copy may be further away, its family is linked all the same.
    assert duplicates.near(texts, threshold=0.8).tolist() == families


@pytest.mark.parametrize(("left", "right"), [
    ("I have lost my card!", "i have LOST my card"), ("我的卡丢了\uff0c怎么办\uff1f", "我的卡丢了怎么办"),
    ("ＡＢＣ１２３ is full-width", "abc123 is full width"), ("two\n lines", "two lines"), ("cafe\u0301 au lait", "café au lait"),
    ("订单 123 到了 OK", "订单123到了ok"),
])
def test_case_width_punctuation_and_white_space_do_not_count(left, right):
    assert duplicates.near([left, right], threshold=1).tolist() == [0, 0]


@pytest.mark.parametrize(("left", "right"), [
    ("my card is lost", "my lost is card"), ("猫追狗", "狗追猫"), ("!!", "??"), ("", "a"), ("👍", "👎"), ("a b", "ab"),
])
def test_order_and_characters_count(left, right):
    assert duplicates.near([left, right], threshold=1).tolist() == [0, 1]


def test_digits_count_or_not():
    texts = ["where is order 1234", "where is order 98", "where is parcel 98", "订单1234在哪里", "订单5在哪里"]
    assert duplicates.near(texts, threshold=1).tolist() == [0, 1, 2, 3, 4]
    assert duplicates.near(texts, threshold=1, digits=False).tolist() == [0, 0, 2, 3, 3]


def test_the_similarity_is_that_of_another_library():
    from sklearn.feature_extraction.text import CountVectorizer

    draw = random.Random(3)
    texts = [" ".join(draw.choices(["red", "green", "blue", "pink", "grey"], k=draw.randint(1, 12))) for _ in range(60)]
    counted = CountVectorizer(ngram_range=(2, 2), binary=True, token_pattern=r"\w+").fit_transform(["begin " + text for text in texts])
    common = (counted @ counted.T).toarray()
    sizes = common.diagonal()
    expected = common / (sizes[:, None] + sizes - common)
    sets = shingles.of(texts, threshold=0.5)
    left, right = (index.ravel() for index in np.indices(expected.shape))
    for threshold in (0.2, 1 / 3, 0.5, 0.75, 1.0):
        assert (shingles.similar(sets, left, sets, right, threshold) == (expected.ravel() >= threshold - 1e-9)).all()


def test_bands_miss_one_in_a_thousand_at_the_threshold():
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        count, length = shingles.bands_for(threshold)
        assert count * length <= 128
        assert (1 - threshold**length) ** count <= 0.001


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(LabError, match="above 0 and at most 1"):
        duplicates.near(["a", "b"], threshold=threshold)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, max_size=25))
def test_clusters_are_those_of_comparing_all_with_all(texts):
    found = duplicates.near(texts, threshold=0.5).tolist()
    wide, narrow = components(texts, 0.5), components(texts, 0.75)  # two texts at 0.75 share none of 25 bands with a chance of 1e-9
    assert all(wide[text] == wide[first] for text, first in enumerate(found))
    assert all(found[text] == found[first] for text, first in enumerate(narrow))
    assert all(first <= text and found[first] == first for text, first in enumerate(found))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(TEXT, st.text(max_size=30)), max_size=25), st.randoms(use_true_random=False))
def test_clusters_depend_neither_on_order_nor_on_processes(texts, shuffle):
    order = list(range(len(texts)))
    shuffle.shuffle(order)
    found = duplicates.near(texts, threshold=0.5)
    again = duplicates.near([texts[index] for index in order], threshold=0.5, processes=2)
    assert same_partition([found[index] for index in order], again.tolist())


def test_a_text_that_begins_with_a_digit_is_like_its_twin_wherever_it_stands():
    assert duplicates.near(["0", "0"], digits=False).tolist() == [0, 0]
    assert duplicates.near(["7 parcels", "a", "8 parcels"], digits=False).tolist() == [0, 1, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=12), st.lists(st.text(max_size=12), max_size=12))
def test_any_text_can_be_compared(texts, others):
    exact = duplicates.exact(texts)
    assert [texts.index(text) for text in texts] == exact.tolist()
    near = duplicates.near(texts, digits=False)
    assert all(near[index] == near[first] for index, first in enumerate(exact))
    found = duplicates.against(texts, others)
    assert all(found[index] >= 0 for index, text in enumerate(texts) if text in others)


def test_lone_surrogates_and_very_long_texts_are_compared():
    long = "word " * 300_000
    assert duplicates.near(["\ud800 x", "\ud800 x", long, long, "\0", ""]).tolist() == [0, 0, 2, 2, 4, 5]


def test_ten_thousand_equal_texts_take_less_than_a_second():
    duplicates.near(["two texts to", "warm up"])
    start = time.process_time()
    assert duplicates.near(["we are sorry that your parcel is late"] * 10_000).tolist() == [0] * 10_000
    assert time.process_time() - start < 1


def test_texts_of_one_template_are_not_compared_all_with_all(monkeypatch):
    draw = random.Random(5)
    frame = words(draw, 40)
    # Of 44 words 4 stand at random places: any two texts have a similarity of about 0.6, and every band has buckets of hundreds.
    texts = []
    for _ in range(3000):
        units = list(frame)
        for _ in range(4):
            units.insert(draw.randrange(len(units)), f"slot{draw.randrange(10_000)}")
        texts.append(" ".join(units))
    compared = []
    similar = shingles.similar
    monkeypatch.setattr(shingles, "similar", lambda *given: compared.append(len(given[1])) or similar(*given))
    duplicates.near(texts, threshold=0.9)
    bands, _ = shingles.bands_for(0.9)
    assert 0 < sum(compared) <= bands * 3000 * 17  # of each bucket its first and sixteen neighbours


def test_a_text_is_found_among_others_directly_and_not_through_a_chain():
    base = [f"w{number}" for number in range(40)]
    one, two = [*base[:20], "x", *base[21:]], [*base[:5], "y", *base[6:20], "x", *base[21:30], "z", *base[31:]]
    texts = [" ".join(units) for units in (base, one, two)]
    # 38 of 42 pairs; two edits away from `one`: 36 of 44; three away from `base`: 34 of 46, below 0.8
    assert duplicates.near(texts).tolist() == [0, 0, 0]
    assert duplicates.against(texts, [texts[0]]).tolist() == [0, 0, -1]
    assert duplicates.against(texts, ["nothing of that", texts[2].upper()]).tolist() == [-1, 1, 1]
    assert duplicates.against([], texts).tolist() == [] and duplicates.against(texts, []).tolist() == [-1, -1, -1]


def test_planted_copies_are_found_in_another_file():
    texts, families = planted(2000, 2)
    others = [text for row, text in enumerate(texts) if families[row] == row]
    copies = [row for row in range(2000) if families[row] != row]
    found = duplicates.against([texts[row] for row in copies], others)
    near = [max(jaccard(texts[row], texts[families[row]]), 0) for row in copies]
    right = [others[index] == texts[families[row]] if index >= 0 else similarity < 0.8
             for row, index, similarity in zip(copies, found, near, strict=True)]
    assert all(right)


def test_semantic_duplicates_are_near_to_one_that_stayed():
    angles = np.radians([0, 10, 20, 90, 95, 30, 180.0])  # cosine of 15 degrees: 0.966
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32) * np.arange(1, 8)[:, None]
    found = duplicates.semantic(vectors, threshold=float(np.cos(np.radians(15)))).tolist()
    assert found == [0, 0, 2, 3, 3, 2, 6]  # 20 is near to 10, which went, so it stays


def test_semantic_duplicates_over_many_blocks_are_those_of_a_plain_loop():
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(2600, 4)).astype(np.float32)
    cosines = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    found = duplicates.semantic(vectors, threshold=0.97)
    stayed = found == np.arange(len(vectors))
    for row in range(len(vectors)):
        before = np.flatnonzero(stayed[:row] & (cosines[row, :row] >= 0.97 + 1e-5))
        assert not (stayed[row] and len(before))
        assert stayed[found[row]] and cosines[row, found[row]] >= 0.97 - 1e-5


def test_the_embedded_encoder_finds_a_paraphrase():
    texts = ["I have lost my card, what should I do?", "What do I have to do if I lost my card?", "How do I change my address?",
             "I have lost my card, what should I do?"]
    assert duplicates.semantic(texts, threshold=0.85).tolist() == [0, 0, 2, 0]
