"""CoNLL-2003's files, in both tagging schemes, with everything that can be wrong with them."""

import pytest

from labkit.errors import LabError
from labkit.training.tasks import formats
from labkit.training.tasks.formats import conll

IOB1 = """-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER
heads VBZ I-VP O
for IN I-PP O
Baghdad NNP I-NP I-LOC
. . O O

-DOCSTART- -X- -X- O

Ajax NNP I-NP I-ORG
Feyenoord NNP B-NP B-ORG
New NNP I-NP I-LOC
York NNP I-NP I-LOC
"""  # the shared task's own first sentence


def put(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_iob1_becomes_bio_and_documents_are_kept(tmp_path):
    put(tmp_path / "eng.train", IOB1)
    data = formats.load("conll2003", tmp_path)
    assert data.labels == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert [[data.labels[tag] for tag in row] for row in data.train["tags"][:]] == [
        ["B-ORG", "O", "B-PER", "O", "O", "B-LOC", "O"], ["B-ORG", "B-ORG", "B-LOC", "I-LOC"]]
    assert data.train["tokens"][1] == ["Ajax", "Feyenoord", "New", "York"] and data.train["document"][:] == [0, 1]


def test_bio_stays_as_it_is_with_tabs_and_windows_line_ends(tmp_path):
    put(tmp_path / "train.txt", "New\tB-LOC\r\nYork\tI-LOC\r\n\r\n\r\nAjax\tB-ORG\r\nFeyenoord\tB-ORG")
    data = formats.load("conll2003", tmp_path)
    assert [[data.labels[tag] for tag in row] for row in data.train["tags"][:]] == [["B-LOC", "I-LOC"], ["B-ORG", "B-ORG"]]
    assert data.train["document"][:] == [0, 0]


def test_other_encodings_are_read_where_they_are_said(tmp_path):
    path = put(tmp_path / "esp.train", "Málaga NC B-LOC\n", "latin-1")
    assert conll.read(path, encoding="latin-1")[0].tokens == ("Málaga",)
    with pytest.raises(LabError, match="line 1 is not UTF-8"):
        conll.read(path)


def test_all_columns_are_kept(tmp_path):
    rows = conll.read(put(tmp_path / "x", "Die der ART B-NC O\nBank Bank NN I-NC B-ORG\n"))
    assert rows[0].columns == (("Die", "der", "ART", "B-NC", "O"), ("Bank", "Bank", "NN", "I-NC", "B-ORG"))
    assert rows[0].tags == ("O", "B-ORG")


@pytest.mark.parametrize("text, why", [
    ("a B-X\nb I-Y\n", "line 2: I-Y cannot follow B-X; nor is it IOB1: .*line 1: B-X cannot follow the sentence's start"),
    ("a O\n\nb B-X\nc O\nd I-X\n", "line 5: I-X cannot follow O; nor"),
    ("a x O\nb O\n", "line 2: 2 columns where the first word has 3"), ("a\n", "line 1: a word and its tag"),
    ("a S-X\n", "line 1: the tag 'S-X' is not O"), ("\n\n", "no words"), ("-DOCSTART- O\n", "no words"),
])
def test_what_is_wrong_is_named_with_its_line(text, why, tmp_path):
    with pytest.raises(LabError, match=why):
        conll.read(put(tmp_path / "x", text))


def test_a_scheme_that_was_said_is_held_to(tmp_path):
    path = put(tmp_path / "x", "a I-X\n")
    assert conll.read(path, scheme="iob1")[0].tags == ("B-X",)
    with pytest.raises(LabError, match="line 1: I-X cannot follow the sentence's start"):
        conll.read(path, scheme="bio")
    with pytest.raises(LabError, match="iob1 or bio"):
        conll.read(path, scheme="bilou")


def test_a_folder_without_files_says_what_is_looked_for(tmp_path):
    with pytest.raises(LabError, match="none of eng.train"):
        formats.load("conll2003", tmp_path)
