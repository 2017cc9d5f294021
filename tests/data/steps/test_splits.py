"""The split step reads what it needs from the records, marks each of them, and refuses with file and row."""

import pytest

from labkit import records, scenarios
from labkit.data.steps import duplicates, splits
from labkit.errors import LabError


def rows(scenario, entries):
    """Records from (text, answer, split, meta)."""
    return records.from_list([
        records.make(scenario.name, "en", [{"role": "user", "content": text}], answer, source="mine.csv", license="CC0-1.0", split=split,
                     meta={"row": number, **meta}) for number, (text, answer, split, meta) in enumerate(entries, 1)])


def different(count, kinds=("apple", "pear")):
    """Texts that have no word and no template in common, with answers in turn."""
    names = ["".join(chr(97 + row // 26**place % 26) for place in range(3)) for row in range(count)]
    return [(f"first{name} second{name}", {"kind": kinds[row % len(kinds)]}, "", {}) for row, name in enumerate(names)]


def drawn(marks):
    return [mark.changes.get("split", "") for mark in marks]


def test_every_label_is_split_by_its_share(small_scenario):
    data = rows(small_scenario, different(200))
    found = drawn(splits.split(data, small_scenario, processes=1))
    for kind in (0, 1):
        assert [found[kind::2].count(split) for split in ("train", "validation", "test")] == [80, 5, 15]


def test_the_order_of_the_records_does_not_count(small_scenario):
    data = rows(small_scenario, different(60))
    order = [row * 7 % 60 for row in range(60)]
    found = drawn(splits.split(data, small_scenario, processes=1))
    again = drawn(splits.split(data.select(order), small_scenario, processes=2))
    assert again == [found[row] for row in order]


def test_one_customer_one_conversation_and_one_template_are_on_one_side(small_scenario):
    entries = [(text, answer, split, {"group": f"customer {row % 9}"} if row < 45 else {"conversation": row % 9})
               for row, (text, answer, split, _) in enumerate(different(90))]
    entries += [(f"where is my parcel number {row}{row}?", {}, "", {}) for row in range(20)]
    marks = splits.split(rows(small_scenario, entries), small_scenario, processes=1, test=0.3)
    found = drawn(marks)
    for group in range(9):
        assert len({found[row] for row in range(45) if row % 9 == group}) == 1
        assert len({found[row] for row in range(45, 90) if row % 9 == group}) == 1
    assert len(set(found[90:])) == 1 and set(found) == {"train", "validation", "test"}
    assert all(mark.counts["grouped"] == 1 for mark in marks[90:])


def test_what_the_split_draws_has_no_leaks(small_scenario):
    base = " ".join(f"base{number}" for number in range(30))
    entries = different(40) + [(base + f" end{row}", {"kind": "pear"}, "", {}) for row in range(20)]
    data = rows(small_scenario, entries)
    found = drawn(splits.split(data, small_scenario, processes=1))
    data = records.from_list([{**record, "split": split} for record, split in zip(data, found, strict=True)])
    assert not any(mark.drop for mark in duplicates.leaks(data, small_scenario, processes=1))


def test_a_split_that_stands_is_kept_unless_told_otherwise(small_scenario):
    entries = different(40)
    entries[0] = (*entries[0][:2], "test", {"group": "ann"})
    entries[1] = (*entries[1][:3], {"group": "ann"})
    data = rows(small_scenario, entries)
    marks = splits.split(data, small_scenario, processes=1)
    assert marks[0].changes == {} and marks[0].counts == {"test": 1, "kept": 1, "grouped": 1} and drawn(marks)[1] == "test"
    anew = [splits.split(data, small_scenario, keep=False, seed=seed, processes=1) for seed in range(5)]
    assert {drawn(marks)[0] for marks in anew} != {"test"} and all(drawn(marks)[0] == drawn(marks)[1] for marks in anew)


def test_by_time_the_latest_are_the_test(small_scenario):
    entries = [(text, answer, "", {"time": f"2024-{1 + row % 12:02}-03"}) for row, (text, answer, _, _) in enumerate(different(120))]
    data = rows(small_scenario, entries)
    found = drawn(splits.split(data, small_scenario, by_time=True, validation=0.25, test=0.25, processes=1))
    assert found == ["train" if row % 12 < 6 else "validation" if row % 12 < 9 else "test" for row in range(120)]


@pytest.mark.parametrize(("meta", "says"), [
    ({}, "mine.csv, row 3: no time to split by"), ({"time": ""}, "mine.csv, row 3: no time"),
    ({"time": "03/04/2024"}, "mine.csv, row 3: the time '03/04/2024' cannot be read"),
])
def test_a_time_that_is_missing_or_unclear_names_file_and_row(small_scenario, meta, says):
    entries = [(text, answer, "", {"time": 1706659200 + row}) for row, (text, answer, _, _) in enumerate(different(5))]
    entries[2] = (*entries[2][:3], meta)
    with pytest.raises(LabError, match=says) as caught:
        splits.split(rows(small_scenario, entries), small_scenario, by_time=True, processes=1)
    assert "\u65f6\u95f4" in caught.value.said("zh")


def test_all_in_one_group_says_why_nothing_can_be_held_out(small_scenario):
    data = rows(small_scenario, [(f"where is order {row}?", {"kind": "pear"}, "", {}) for row in range(10)])
    with pytest.raises(LabError, match="all 10 records are one group"):
        splits.split(data, small_scenario, processes=1)
    assert set(drawn(splits.split(data, small_scenario, template=False, near=0, processes=1))) == {"train", "validation", "test"}


def test_no_records_are_no_marks(small_scenario):
    assert splits.split(rows(small_scenario, different(1)).select([]), small_scenario, processes=1) == []


@pytest.mark.parametrize("name", scenarios.names())
def test_the_samples_can_be_drawn_anew(name):
    scenario = scenarios.load(name)
    found = drawn(splits.split(records.samples(scenario), scenario, keep=False, processes=1))
    assert abs(found.count("test") - 0.15 * len(found)) <= 0.02 * len(found)
