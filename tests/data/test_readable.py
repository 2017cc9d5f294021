"""Rows of codes become sentences in both languages."""

import pytest

from labkit.data import readable
from labkit.errors import LabError

ROW = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201".split()


@pytest.fixture()
def book():
    return readable.columns("german_credit")


def test_every_cell_is_told_in_its_columns_sentence(book):
    said = readable.text(ROW, book, "en")
    assert said.startswith("Checking account: overdrawn. The loan is to run for 6 months. Credit history: critical account")
    assert "Amount: 1169 DM." in said and said.endswith("Foreign worker: yes.") and said.count(". ") >= 19
    assert readable.text(ROW, book, "zh").startswith("活期账户：透支。贷款期限6个月。信用记录：")


def test_columns_can_be_left_out(book):
    said = readable.text(ROW, book, "en", leave_out=(8, 19))
    assert "Sex" not in said and "Foreign" not in said and "Age: 67." in said


def test_a_wrong_row_says_what_is_wrong(book):
    with pytest.raises(LabError, match="19 cells where the code book has 20 columns"):
        readable.text(ROW[1:], book, "en")
    with pytest.raises(LabError, match="column 3: code 'A99' is none of A30, A31"):
        readable.text([*ROW[:2], "A99", *ROW[3:]], book, "en")
    with pytest.raises(LabError, match="no code book 'x'; there are german_credit"):
        readable.columns("x")
