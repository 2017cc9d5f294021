"""GLUE's files as they are published: columns, quotes, headers, and what is wrong with a line."""

import pytest

from labkit.errors import LabError
from labkit.training.tasks import formats
from labkit.training.tasks.formats import glue

MNLI = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse",
        "sentence1", "sentence2"]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]


def put(path, *rows, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join("\t".join(row) + end for row in rows).encode())


def columns(rows):
    return {name: rows[name][:] for name in rows.column_names}


def test_cola_has_no_header_but_in_its_test_file(tmp_path):
    put(tmp_path / "train.tsv", ["gj04", "1", "", "They drank the pub dry."], ["gj04", "0", "*", "They drank the pub."])
    put(tmp_path / "test.tsv", ["index", "sentence"], ["0", "Bill whistled past the house."])
    data = formats.load("glue/cola", tmp_path)
    assert columns(data.train) == {"text": ["They drank the pub dry.", "They drank the pub."], "label": [1, 0]}
    assert columns(data.splits["test"]) == {"text": ["Bill whistled past the house."]}
    assert data.labels == ("unacceptable", "acceptable") and data.metrics == ("matthews",)


def test_quotation_marks_are_characters_and_never_join_lines(tmp_path):
    put(tmp_path / "train.tsv", ["sentence", "label"], ['"a wonderful', "1"], ['film" they said ""', "0"])
    data = formats.load("glue/sst2", tmp_path)
    assert columns(data.train) == {"text": ['"a wonderful', 'film" they said ""'], "label": [1, 0]}


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_the_data(tmp_path):
    put(tmp_path / "dev.tsv", ["\ufeffsentence", "label"], ["fine", "1"], end="\r\n")
    assert columns(formats.load("glue/sst2", tmp_path).validation) == {"text": ["fine"], "label": [1]}


def test_characters_that_unicode_calls_a_lines_end_stay_in_a_text(tmp_path):
    put(tmp_path / "train.tsv", ["sentence", "label"], ["one\u2028two\x85three\x0bfour", "1"])
    assert formats.load("glue/sst2", tmp_path).train["text"][:] == ["one\u2028two\x85three\x0bfour"]


def test_the_folder_of_all_tasks_is_as_good_as_the_tasks_own(tmp_path):
    put(tmp_path / "SST-2" / "train.tsv", ["sentence", "label"], ["fine", "1"])
    assert len(formats.load("glue/sst2", tmp_path).train) == 1


def test_mnli_has_two_validation_and_two_test_files(tmp_path):
    row = ["0", "1", "1n", "fiction", "", "", "", "", "A man sleeps.", "Someone rests."]
    put(tmp_path / "train.tsv", [*MNLI, "label1", "gold_label"], [*row, "entailment", "entailment"])
    for split in ("matched", "mismatched"):
        labels = [f"label{number}" for number in range(1, 6)]
        put(tmp_path / f"dev_{split}.tsv", [*MNLI, *labels, "gold_label"], [*row, *["neutral"] * 5, "contradiction"])
        put(tmp_path / f"test_{split}.tsv", MNLI, row)
    data = formats.load("glue/mnli", tmp_path)
    assert set(data.splits) == {"train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"}
    assert columns(data.train) == {"text": ["A man sleeps."], "text_pair": ["Someone rests."], "label": [0]}
    assert data.validation["label"][:] == [2]
    assert data.splits["test_matched"].column_names == ["text", "text_pair"]


def test_stsb_has_scores(tmp_path):
    put(tmp_path / "train.tsv", [*STSB, "score"], ["0", "news", "f", "2012", "1", "none", "none", "A plane.", "An aeroplane.", "5.000"],
        ["1", "news", "f", "2012", "2", "none", "none", "A plane.", "A \"goat.", "0.250"])
    data = formats.load("glue/stsb", tmp_path)
    assert data.task == "regress" and data.labels == () and data.train["label"][:] == [5.0, 0.25]
    assert data.train["text_pair"][:] == ["An aeroplane.", 'A "goat.']


@pytest.mark.parametrize("name, header, row, label", [
    ("qqp", ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], ["7", "1", "2", "A?", "B?", "1"], 1),
    ("qnli", ["index", "question", "sentence", "label"], ["7", "A?", "B?", "not_entailment"], 1),
    ("rte", ["index", "sentence1", "sentence2", "label"], ["7", "A?", "B?", "entailment"], 0),
    ("wnli", ["index", "sentence1", "sentence2", "label"], ["7", "A?", "B?", "1"], 1),
    ("mrpc", ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "5", "6", "A?", "B?"], 1),
])
def test_pairs_have_two_texts(name, header, row, label, tmp_path):
    put(tmp_path / "train.tsv", header, row)
    assert columns(formats.load(f"glue/{name}", tmp_path).train) == {"text": ["A?"], "text_pair": ["B?"], "label": [label]}


def test_microsofts_own_mrpc_files_are_split_by_the_list_of_held_out_pairs(tmp_path):
    header = ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    put(tmp_path / "msr_paraphrase_train.txt", header, ["1", "10", "11", "a", "b"], ["0", "20", "21", "c", "d"], end="\r\n")
    put(tmp_path / "msr_paraphrase_test.txt", header, ["1", "30", "31", "e", "f"], end="\r\n")
    (tmp_path / "dev_ids.tsv").write_text("20\t21\n")
    data = formats.load("glue/mrpc", tmp_path)
    assert data.train["text"][:] == ["a"] and data.validation["text"][:] == ["c"] and data.splits["test"]["label"][:] == [1]


def test_both_diagnostic_files_are_read(tmp_path):
    put(tmp_path / "a" / "diagnostic.tsv", ["index", "sentence1", "sentence2"], ["0", "A", "B"])
    put(tmp_path / "b" / "diagnostic-full.tsv", ["Lexical Semantics", "Logic", "Knowledge", "Domain", "Premise", "Hypothesis", "Label"],
        ["", "", "", "News", "A", "B", "neutral"])
    assert columns(formats.load("glue/ax", tmp_path / "a").splits["test"]) == {"text": ["A"], "text_pair": ["B"]}
    assert columns(formats.load("glue/ax", tmp_path / "b").splits["test"]) == {"text": ["A"], "text_pair": ["B"], "label": [1]}


@pytest.mark.parametrize("row, why", [
    (["fine"], "1 columns where the first line has 2"), (["fine", "1", "x"], "3 columns"), (["fine", "2"], "one of 0, 1, not '2'"),
    ([" ", "1"], "empty"), ([""], "empty line"),
])
def test_a_broken_line_is_refused_with_its_place_or_left_out_and_listed(row, why, tmp_path):
    put(tmp_path / "train.tsv", ["sentence", "label"], ["good", "1"], row, ["bad", "0"])
    with pytest.raises(LabError, match=rf"train\.tsv, line 3: .*{why}"):
        formats.load("glue/sst2", tmp_path)
    data = formats.load("glue/sst2", tmp_path, leave_out_broken=True)
    assert data.train["text"][:] == ["good", "bad"]
    assert len(data.left_out) == 1 and "line 3" in data.left_out[0]


@pytest.mark.parametrize("score", ["5.1", "-0.5", "nan", "high"])
def test_a_score_is_a_number_from_0_to_5(score, tmp_path):
    put(tmp_path / "train.tsv", [*STSB, "score"], ["0", "n", "f", "y", "1", "none", "none", "A", "B", score])
    with pytest.raises(LabError, match="line 2: the score must be"):
        formats.load("glue/stsb", tmp_path)


def test_a_header_that_lacks_a_column_is_named(tmp_path):
    put(tmp_path / "train.tsv", ["sentence", "stars"], ["fine", "1"])
    with pytest.raises(LabError, match="line 1: the header lacks label"):
        formats.load("glue/sst2", tmp_path)


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(LabError, match="line 2 is not UTF-8"):
        formats.load("glue/sst2", tmp_path)


def test_a_folder_without_the_tasks_files_and_a_task_that_is_not_there_are_said(tmp_path):
    with pytest.raises(LabError, match="none of rte's files: train.tsv"):
        formats.load("glue/rte", tmp_path)
    with pytest.raises(LabError, match="no task 'snli'"):
        formats.load("glue/snli", tmp_path)
    with pytest.raises(LabError, match="not a folder"):
        formats.load("glue/rte", tmp_path / "missing")


def test_offline_the_hubs_data_set_is_asked_for_in_one_line(tmp_path):
    with pytest.raises(LabError, match="LABKIT_ONLINE=1") as caught:
        formats.load("glue/sst2")
    assert "\n" not in str(caught.value)


def test_the_hubs_columns_become_ours_and_unknown_labels_no_column():
    from datasets import ClassLabel, Dataset, Features, Value

    text = Value("string")
    features = Features({"premise": text, "hypothesis": text, "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
                         "idx": Value("int32")})
    known = Dataset.from_dict({"premise": ["A"], "hypothesis": ["B"], "label": [2], "idx": [0]}, features=features)
    unknown = Dataset.from_dict({"premise": ["A"], "hypothesis": ["B"], "label": [-1], "idx": [0]}, features=features)
    assert columns(glue.from_columns(known, glue.TASKS["mnli"])) == {"text": ["A"], "text_pair": ["B"], "label": [2]}
    assert glue.from_columns(unknown, glue.TASKS["mnli"]).column_names == ["text", "text_pair"]


def test_every_task_has_the_metrics_that_glue_reports():
    wanted = {"cola": ("matthews",), "sst2": ("accuracy",), "mrpc": ("f1", "accuracy"), "qqp": ("f1", "accuracy"),
              "stsb": ("pearson", "spearman"), "mnli": ("accuracy",), "qnli": ("accuracy",), "rte": ("accuracy",), "wnli": ("accuracy",),
              "ax": ("matthews",)}  # Wang et al. 2019, table 1
    assert {name: task.metrics for name, task in glue.TASKS.items()} == wanted
