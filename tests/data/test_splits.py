"""Rows are drawn by groups: nothing alike on two sides, each label by its share, whatever the order of the rows."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import splits
from labkit.errors import LabError

STANDING = st.sampled_from(["", "", "", "train", "validation", "test"])
ROWS = st.lists(st.tuples(st.integers(0, 30).map(str), st.sampled_from("abc"), STANDING), max_size=60)


def sides(keys, drawn):
    found = {}
    for key, split in zip(keys, drawn, strict=True):
        found.setdefault(key, set()).add(split)
    return found


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(0, 3), st.booleans())
def test_no_group_is_on_two_sides_and_what_stands_stays(rows, seed, keep):
    keys, labels, fixed = ([row[place] for row in rows] for place in range(3))
    fixed = fixed if keep else [""] * len(rows)
    if len(set(keys)) == 1 and not any(fixed):
        with pytest.raises(LabError, match="one group"):
            splits.assign(keys, labels, seed=seed, fixed=fixed)
        return
    drawn = splits.assign(keys, labels, seed=seed, fixed=fixed)
    assert all(split == standing for split, standing in zip(drawn, fixed, strict=True) if standing)
    standing = {key: {split for other, split in zip(keys, fixed, strict=True) if other == key and split} for key in keys}
    for key, found in sides(keys, drawn).items():
        assert found == standing[key] or found == standing[key] | {"train"} or not standing[key] and len(found) == 1
        if len(standing[key]) == 1:
            assert found == standing[key]  # the whole group follows
    wanted = ["train", "test", "validation"]
    free = len({key for key in keys if not standing[key]})
    empty = [split for split in wanted if split not in drawn]
    assert not (rows and empty) or free + len(set().union(*standing.values())) < 3


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_draw_does_not_depend_on_the_order_of_the_rows(rows, seed, shuffle):
    rows = [*rows, ("one more", "a", ""), ("another", "b", "")]
    mixed = list(rows)
    shuffle.shuffle(mixed)
    draw = lambda rows: splits.assign([row[0] for row in rows], [row[1] for row in rows], seed=seed)  # noqa: E731
    assert sorted(zip(rows, draw(rows), strict=True)) == sorted(zip(mixed, draw(mixed), strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 200), min_size=1, max_size=8), st.sampled_from([(0.8, 0.05, 0.15), (0.7, 0.1, 0.2), (0.5, 0.0, 0.5)]),
       st.integers(0, 9))
def test_each_label_is_split_by_the_shares_to_the_nearest_row(sizes, shares, seed):
    labels = [f"label {number}" for number, size in enumerate(sizes) for _ in range(size)]
    keys = [f"group {row}" for row in range(len(labels))]
    counts = Counter(zip(labels, splits.assign(keys, labels, shares=shares, seed=seed), strict=True))
    for number, size in enumerate(sizes):
        for split, share in zip(("validation", "test"), shares[1:], strict=True):
            count = counts[f"label {number}", split]
            assert abs(count - share * size) < 1 or count == 1 and share  # in every split, even where that is more than its share
        assert counts[f"label {number}", "train"] >= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_the_shares_hold_over_all_rows_where_groups_have_several(seed):
    draw = random.Random(seed)
    keys, labels = [], []
    for group in range(300):
        label = draw.choice("abcd")
        for _ in range(draw.randint(1, 6)):
            keys.append(f"group {group}")
            labels.append(label)
    counts = Counter(splits.assign(keys, labels, seed=seed))
    for split, share in (("train", 0.8), ("validation", 0.05), ("test", 0.15)):
        assert abs(counts[split] - share * len(keys)) <= 4 * 3  # of four labels each is met to half of the largest group


def test_another_seed_draws_other_rows_and_one_more_row_moves_few():
    keys = [f"group {row}" for row in range(1000)]
    drawn = splits.assign(keys, ["a"] * 1000)
    other = splits.assign(keys, ["a"] * 1000, seed=1)
    assert sum(left != right for left, right in zip(drawn, other, strict=True)) > 200  # by chance about 0.34 of them
    more = splits.assign([*keys, "one more"], ["a"] * 1001)
    assert sum(left != right for left, right in zip(drawn, more[:1000], strict=True)) <= 3


@pytest.mark.parametrize(("count", "expected"), [
    (2, {"train": 1, "test": 1}), (3, {"train": 1, "validation": 1, "test": 1}), (20, {"train": 16, "validation": 1, "test": 3})])
@pytest.mark.parametrize("labels", ["one", "each its own"])
def test_few_rows_fill_as_many_splits_as_they_can(count, expected, labels):
    keys = [f"group {row}" for row in range(count)]
    for seed in range(20):
        drawn = splits.assign(keys, ["a"] * count if labels == "one" else keys, seed=seed)
        assert Counter(drawn) == expected


def test_a_group_too_large_for_the_test_is_learned_from():
    keys = ["large"] * 80 + [f"group {row}" for row in range(20)]
    for seed in range(10):
        drawn = splits.assign(keys, ["a"] * 100, seed=seed)
        assert Counter(drawn) == {"train": 80, "validation": 5, "test": 15} and set(drawn[:80]) == {"train"}


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(LabError, match="shares that sum to 1"):
        splits.assign(["a", "b"], ["", ""], shares=shares)


def test_all_can_be_learned_from():
    assert splits.assign(["a", "a"], ["x", "y"], shares=(1, 0, 0)) == ["train", "train"]


def test_the_rest_of_a_group_that_stands_in_two_splits_is_learned_from():
    drawn = splits.assign(["a", "a", "a", "b"], [""] * 4, fixed=["test", "", "validation", "test"])
    assert drawn == ["test", "train", "validation", "test"]


def test_what_stands_counts_towards_the_shares():
    keys = [f"group {row}" for row in range(100)]
    drawn = splits.assign(keys, ["a"] * 100, fixed=["test"] * 15 + [""] * 85)
    assert Counter(drawn) == {"train": 80, "validation": 5, "test": 15}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 9)), min_size=1, max_size=40), st.integers(0, 3))
def test_by_time_the_latest_groups_are_the_test(rows, seed):
    rows = [*rows, (98, 3), (99, 4)]
    keys, times = [str(key) for key, _ in rows], [time for _, time in rows]
    drawn = splits.assign(keys, [""] * len(rows), seed=seed, times=times)
    latest = {key: max(time for other, time in zip(keys, times, strict=True) if other == key) for key in keys}
    of = {"train": set(), "validation": set(), "test": set()}
    for key, split in zip(keys, drawn, strict=True):
        of[split].add(latest[key])
    assert of["train"] and of["test"] and max(of["train"]) <= min(of["test"])
    assert not of["validation"] or max(of["train"]) <= min(of["validation"]) <= max(of["validation"]) <= min(of["test"])
    assert all(len(found) == 1 for found in sides(keys, drawn).values())


@pytest.mark.parametrize(("value", "expected"), [
    (1706659200, 1706659200), (1706659200.5, 1706659200.5), (1706659200000, 1706659200), ("1706659200", 1706659200),
    ("2024-01-31", 1706659200), ("2024-01-31T00:00:00Z", 1706659200), ("2024-01-31 08:00:00+08:00", 1706659200),
    ("20240131", 1706659200),
    ("2024/1/31", 1706659200), ("2024.01.31", 1706659200), ("2024年1月31日", 1706659200), ("2024年1月31日 1时2分3秒", 1706659200 + 3723),
    ("2024/1/31 1:02", 1706659200 + 3720), ("Wed, 31 Jan 2024 08:00:00 +0800", 1706659200),
])  # date -d 2024-01-31T00:00:00Z +%s
def test_a_time_is_read_as_people_write_it(value, expected):
    assert splits.read_time(value) == expected


@pytest.mark.parametrize("value", ["03/04/2024", "yesterday", "", None, True, "nan", float("inf"), "2024-02-30", "31 Jan", [], "2024",
                                   10**400])
def test_a_time_that_can_mean_several_is_refused(value):
    with pytest.raises(LabError, match="cannot be read; write it as 2024-01-31"):
        splits.read_time(value)


@pytest.mark.parametrize(("left", "right"), [
    ("Where is order 1234-5, {{name}}?", "where is  order 9, [PERSON]?"), ('I bought "blue lamp" today', "I bought “a red chair” today"),
    ("请问订单123到了吗\uff0c【姓名】", "请问订单9到了吗\uff0c{姓名}"), ("我买了「台灯」", "我买了『椅子』"),
    ("pay %s by <DATE>", "pay ${amount} by 1.2.2024"),
    ("it's 'x' now", "it's 'y z' now"),
])
def test_texts_of_one_template_have_the_same_key(left, right):
    assert splits.template(left) == splits.template(right)


def test_other_words_are_another_template():
    assert splits.template("it's a dog's life, isn't it") == "it's a dog's life, isn't it"
    assert splits.template("where is order 1?") != splits.template("where is parcel 1?")


def test_groups_are_what_is_linked_through_anything():
    ids = ["f", "e", "d", "c", "b", "a", "0"]
    texts = ["where is order 1", "where is order 2", "my card was eaten by the machine", "my card was eaten by the machine!", "hello",
             "bye", "so long"]
    customers = ["", "ann", "", "", "ann", "bob", ""]
    chats = ["", "", "", "x", "", "x", ""]
    assert splits.groups(ids, texts, keys=[customers, chats]) == ["b", "b", "a", "a", "b", "a", "0"]
    assert splits.groups(ids, texts, by_template=False, near=0.0) == ids
    assert splits.groups([], []) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a b c 1", "a b c 2", "x y", "X  y", "的 1", "q"]), st.sampled_from(["", "ann", "bob"])),
                max_size=12), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_the_rows(rows, shuffle):
    named = [(str(number), *row) for number, row in enumerate(rows)]
    mixed = list(named)
    shuffle.shuffle(mixed)
    find = lambda rows: splits.groups([row[0] for row in rows], [row[1] for row in rows], keys=[[row[2] for row in rows]])  # noqa: E731
    assert dict(zip(named, find(named), strict=True)) == dict(zip(mixed, find(mixed), strict=True))
