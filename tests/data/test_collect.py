"""Rows become records with their provenance; every row is a record or a reject, whatever it came in."""

import csv
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.data import collect, script, sources
from labkit.errors import LabError
from tests.data.readers import workbooks

MAPPING = {"text": "message", "kind": "label", "weight": "grams", "note": "remark"}


def write(path, rows, columns=("message", "label", "grams", "remark")):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return str(path)


def test_a_row_becomes_a_record_with_its_provenance(tmp_path, small_scenario):
    path = write(tmp_path / "fruit.csv", [(" a round one ", " Apple", "12.5", "sweet"), ("一个梨", "梨", "", "")])
    found = collect.collect([path], small_scenario, MAPPING, license="CC0-1.0")
    first, second = found.records
    assert first == records.make("small", "en", [{"role": "user", "content": "a round one"}],
                                 {"kind": "Apple", "weight": 12.5, "note": "sweet"}, source="fruit.csv", license="CC0-1.0", meta={"row": 2})
    assert second == records.make("small", "zh", [{"role": "user", "content": "一个梨"}], {"kind": "梨"}, source="fruit.csv",
                                  license="CC0-1.0", meta={"row": 3})
    assert found.records.features == records.features()
    assert (found.rows_read, found.rejected, len(found.rejects), found.scenario) == ({path: 2}, {}, 0, small_scenario)


def test_what_the_row_says_of_itself_is_kept(tmp_path, small_scenario):
    columns = ("message", "lang", "lic", "from", "when", "who", "nr", "part")
    full, bare = ("bonjour", "zh-CN", "MIT", "shop", "2024-05-01", "Ann", "7", "dev"), ("a", "", "", "", "", "", "", "")
    path = write(tmp_path / "rows.csv", [full, bare], columns)
    mapping = {"text": "message", "language": "lang", "license": "lic", "source": "from", "time": "when", "group": "who", "id": "nr",
               "split": "part"}
    first, second = collect.collect([path], small_scenario, mapping).records
    assert (first["language"], first["license"], first["source"], first["split"]) == ("zh", "MIT", "shop", "validation")
    assert first["meta"] == {"row": 2, "file": "rows.csv", "group": "Ann", "time": "2024-05-01", "source_id": "7"}
    assert (second["language"], second["license"], second["source"], second["split"]) == ("en", "unknown", "rows.csv", "")


def test_rows_that_can_be_no_record_are_rejected_with_their_reason(tmp_path, small_scenario):
    path = write(tmp_path / "rows.csv", [("", "apple", "1", ""), ("b", "apple", "heavy", ""), ("c", "apple", "nan", ""),
                                         ("d", "melon", "9999", ""), ("e", "apple")])
    found = collect.collect([path], small_scenario, MAPPING)
    assert [(reject["file"], reject["row"], reject["problem"]) for reject in found.rejects] == [
        (path, 2, "column 'message' is empty"), (path, 3, "weight: 'heavy' is not a number"),
        (path, 4, "weight: 'nan' is not a finite number"), (path, 6, "2 cells where the header has 4")]
    assert found.records[0]["answer"] == {"kind": "melon", "weight": 9999.0}  # whether that is a label is judged later
    assert found.rows_read == {path: 5} and found.rejected == {path: 4}


@pytest.mark.parametrize(("values", "problem"), [
    ({"text": ["a"]}, "column 'text' holds a list or an object, not text"), ({"other": "a"}, "column 'text' is missing; there are other"),
    ({"text": "a", "part": "half"}, "the split 'half' is none of train, validation and test"),
    ({"text": "a", "lang": "fr"}, "the language 'fr' is none of en, zh")])
def test_a_value_that_does_not_fit_is_named(tmp_path, small_scenario, values, problem):
    (tmp_path / "rows.jsonl").write_text('{"text": "good", "part": "test", "lang": "en"}\n' + json.dumps(values) + "\n")
    found = collect.collect([str(tmp_path / "rows.jsonl")], small_scenario, {"text": "text", "split": "part", "language": "lang"})
    assert [reject["problem"] for reject in found.rejects] == [problem] and len(found.records) == 1


def test_a_chat_becomes_the_messages_and_the_reply_an_answer(tmp_path):
    said = [("human", "Hi"), ("gpt", "Hello"), ("human", "我的卡呢？"), ("gpt", "在路上")]
    chat = [{"from": who, "value": text} for who, text in said]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"conversations": chat}))
    found = collect.collect([str(tmp_path / "chats.jsonl")], scenarios.load("customer_service"))
    (record,) = found.records
    assert record["messages"] == [{"role": role, "content": text} for role, (_, text) in
                                  zip(["user", "assistant", "user"], said, strict=False)]
    assert record["answer"] == {"reply": "在路上"} and record["language"] == "zh"
    assert collect.collect([str(tmp_path / "chats.jsonl")], scenarios.load("customer_service"),
                           {"messages": "conversations"}).records[0]["messages"] == record["messages"]


def test_a_column_within_an_object_is_reached_by_its_path(tmp_path, small_scenario):
    rows = [{"message": {"text": "a round one"}, "answer": {"kind": "pear"}}, {"message": {"text": "b"}, "answer": {}}, {"message": "c"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    found = collect.collect([str(tmp_path / "rows.json")], small_scenario)
    assert found.mapping == {"text": "message.text", "kind": "answer.kind"}
    assert [(record["messages"][0]["content"], record["answer"]) for record in found.records] == [
        ("a round one", {"kind": "pear"}), ("b", {})]
    assert [reject["problem"] for reject in found.rejects] == ["column 'message.text' is missing; there are message"]


@pytest.mark.parametrize("name", scenarios.names())
def test_the_labs_own_records_come_back_as_they_were(tmp_path, name):
    own = records.samples(scenarios.load(name)).select(range(40))
    records.write(own, tmp_path / "records.jsonl")
    found = collect.collect([str(tmp_path / "records.jsonl")], scenarios.load(name))
    kept = ["id", "scenario", "language", "messages", "answer", "source", "license", "split"]
    assert list(found.records.select_columns(kept)) == list(own.select_columns(kept))


def test_a_data_set_of_the_hub_brings_its_license(monkeypatch, small_scenario):
    import datasets

    def load(name, configuration, split, streaming):
        assert (name, configuration, split, streaming) == ("owner/fruit", "round", "test", True)
        found = datasets.Dataset.from_list([{"text": "an apple"}, {"text": ""}]).to_iterable_dataset()
        found.info.license = "CC-BY-4.0"
        return found

    monkeypatch.setenv("LABKIT_ONLINE", "1")
    monkeypatch.setattr(datasets, "load_dataset", load)
    found = collect.collect(["hub:owner/fruit@round:test"], small_scenario)
    assert [(record["source"], record["license"]) for record in found.records] == [("hub:owner/fruit@round:test", "CC-BY-4.0")]
    assert found.rejected == {"hub:owner/fruit@round:test": 1}


def test_labels_can_be_the_files_in_their_most_frequent_spelling(tmp_path, small_scenario):
    rows = [(f"text {number}", label) for number, label in enumerate(["lost card", "Lost card", "lost card.", "lost card", "冻结"])]
    path = write(tmp_path / "rows.csv", rows, ("text", "label"))
    found = collect.collect([path], small_scenario, {"text": "text", "kind": "label"}, labels="file")
    assert [(field.name, field.values) for field in found.scenario.fields] == [("kind", ["lost card", "冻结"])]
    assert [record["answer"]["kind"] for record in found.records] == ["lost card", "Lost card", "lost card.", "lost card", "冻结"]


@pytest.mark.parametrize(("rows", "says"), [([("a", "x"), ("b", "X")], "column 'label' has only the value"), ([("a", "")], "has no value")])
def test_labels_of_the_file_must_be_two(tmp_path, small_scenario, rows, says):
    path = write(tmp_path / "rows.csv", rows, ("text", "label"))
    with pytest.raises(LabError, match=says):
        collect.collect([path], small_scenario, {"text": "text", "kind": "label"}, labels="file")


@pytest.mark.parametrize(("mapping", "says"), [
    ({"text": "words"}, "none of the 1 rows works; the first: .*rows.csv, row 2: column 'words' is missing; there are text, label"),
    ({"text": "text", "kind": "sort"}, "column 'sort' is in none of the rows; there are text, label")])
def test_a_column_that_is_not_there_is_an_error(tmp_path, small_scenario, mapping, says):
    with pytest.raises(LabError, match=says):
        collect.collect([write(tmp_path / "rows.csv", [("a", "b")], ("text", "label"))], small_scenario, mapping, folder=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()), "what failed leaves nothing behind"


def test_a_text_column_that_cannot_be_told_is_asked_for_in_both_languages(tmp_path, small_scenario):
    (tmp_path / "rows.jsonl").write_text('{"a": 1, "b": 2}\n')
    with pytest.raises(LabError, match="no column looks like the user's message; there are a, b") as error:
        collect.collect([str(tmp_path / "rows.jsonl")], small_scenario)
    assert "没有列像是用户消息" in error.value.zh


def test_files_of_one_name_are_told_apart_and_sheets_too(tmp_path, small_scenario):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "rows.csv", [(name,)], ("text",))
    (tmp_path / "book.xlsx").write_bytes(workbooks.xlsx({"A": [["text"], ["x"]], "B": [["text"], ["y"]]}))
    one, two = str(tmp_path / "one/rows.csv"), str(tmp_path / "two/rows.csv")
    assert collect.collect([one, two], small_scenario).records["source"] == [one, two]
    assert collect.collect([str(tmp_path / "one"), two], small_scenario).records["source"] == [one, two]
    assert collect.collect([one, str(tmp_path / "book.xlsx")], small_scenario).records["source"] == [
        "rows.csv", "book.xlsx#sheet=A", "book.xlsx#sheet=B"]


def test_records_and_rejects_stay_in_the_folder_that_was_named(tmp_path, small_scenario):
    path = write(tmp_path / "rows.csv", [("a",), ("",), ("b",)], ("text",))
    found = collect.collect([path], small_scenario, folder=tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["records.arrow", "rejects.jsonl"]
    assert list(found.rejects) == [{"file": path, "row": 3, "problem": "column 'text' is empty", "values": {"text": ""}}]
    assert [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()] == list(found.rejects)


def test_progress_is_told_up_to_the_end(tmp_path, small_scenario):
    told = []
    path = write(tmp_path / "rows.csv", [(f"row {number} " + "x" * 200,) for number in range(3500)], ("text",))
    collect.collect([path], small_scenario, on_progress=lambda rows, share: told.append((rows, share)))
    assert [rows for rows, _ in told] == [1000, 2000, 3000, 3500]
    assert told[-1][1] == 1.0 and all(0 < share <= 1 for _, share in told) and [s for _, s in told] == sorted(s for _, s in told)


@pytest.mark.parametrize(("text", "language"), [("I live in 北京", "en"), ("iPhone 15 Pro 多少钱", "zh"), ("退款 refund", "zh"),
                                                ("Größe", "en"), ("12345", "en")])
def test_the_language_is_told_by_its_script(text, language):
    assert script.script_of(text) == language


LINE = st.text(st.characters(codec="utf-8"), max_size=12)
LABEL = st.sampled_from(["apple", "梨", "", " pear ", "x,y", '"'])
CELLS = st.lists(st.tuples(LINE, LABEL), min_size=1, max_size=12)


def _write(path, cells):
    rows = [{"text": text, "label": label} for text, label in cells]
    suffix = path.suffix
    if suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif suffix in (".jsonl", ".gz"):
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if suffix == ".gz" else data)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".arrow":
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return len(rows)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["a.csv", "b.tsv", "c.json", "d.jsonl", "e.parquet", "f.arrow", "g.jsonl.gz"]), CELLS, min_size=1))
def test_records_and_rejects_are_all_the_rows(tmp_path_factory, small_scenario, files):
    folder = tmp_path_factory.mktemp("rows")
    written = {str(folder / name): _write(folder / name, cells) for name, cells in files.items()}
    try:
        found = collect.collect([str(folder)], small_scenario, {"text": "text", "kind": "label"})
    except LabError as error:
        assert "none of the" in str(error) and not any(text.strip() and "\0" not in text for cells in files.values() for text, _ in cells)
        return
    assert found.rows_read == written
    assert len(found.records) + len(found.rejects) == sum(written.values())
    kept = sum(bool(text.strip()) and "\0" not in text for cells in files.values() for text, _ in cells)
    assert len(found.records) == kept


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["a.csv", "b.tsv", "c.json", "d.jsonl", "e.txt"]), st.binary(max_size=80) | st.lists(st.sampled_from(
    [b'"', b",", b"\n", b"\r", b"\0", b"a", b"\xff", b"[", b"]", b"{", b"}", b'{"text": "a"}', b'"text"', b":", b"\xe5\xa5\xbd", b"\t",
     b"text"]), max_size=40).map(b"".join))
def test_any_bytes_end_in_rows_that_add_up_or_in_one_line(tmp_path_factory, small_scenario, name, content):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(content)
    try:
        rows = list(sources.read(str(path)))
    except LabError as error:
        assert "\n" not in str(error) and name in str(error)
        return
    try:
        found = collect.collect([str(path)], small_scenario, {"text": "text"})
    except LabError as error:
        assert "\n" not in str(error)
    else:
        assert len(found.records) + len(found.rejects) == len(rows)
