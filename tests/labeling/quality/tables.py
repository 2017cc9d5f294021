"""Tables from the literature, and small ways to make ratings and annotations."""

from datetime import UTC, datetime, timedelta

from labkit.labeling.annotations import Annotation, Ratings

START = datetime(2026, 1, 5, 9, tzinfo=UTC)

# Fleiss 1971, Measuring nominal scale agreement among many raters, Table 1: 30 patients, 6 psychiatrists each, numbers of diagnoses of
# depression, personality disorder, schizophrenia, neurosis, other.
FLEISS_1971 = [
    "00060", "03003", "01401", "00006", "03030", "20400", "00402", "20310", "20040", "00006", "10050", "11040", "03300", "10050", "02031",
    "00501", "30012", "51000", "02040", "10203", "00006", "01050", "02013", "20040", "10041", "05010", "40002", "02040", "10500", "00006"]

# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability: A (binary), B (nominal) and C (any number of observers, missing data);
# a row an observer, a column a unit, * where there is no value.
KRIPPENDORFF_A = ["0100000010", "1110010000"]
KRIPPENDORFF_B = ["aabbdcccedda", "babbbccceddd"]
KRIPPENDORFF_C = ["123321412***", "1233224125**", "*33323422513", "12332441251*"]

# Dawid and Skene 1979, Table 1: 45 patients; the first anaesthetist assessed each three times, four others once.
DAWID_SKENE_1979 = """
111 1 1 1 1|333 4 3 3 4|112 2 1 2 2|222 3 1 2 1|222 3 2 2 2|222 3 3 2 2|122 2 1 1 1|333 3 4 3 3|222 2 2 2 3|232 2 2 2 3|444 4 4 4 4|
222 3 3 4 3|111 1 1 1 1|222 3 2 1 2|121 1 1 1 1|111 2 1 1 1|111 1 1 1 1|111 1 1 1 1|222 2 2 2 1|222 1 3 2 2|222 2 2 2 2|222 2 2 2 1|
222 3 2 2 2|221 2 2 2 2|111 1 1 1 1|111 1 1 1 1|232 2 2 2 2|111 1 1 1 1|111 1 1 1 1|112 1 1 2 1|111 1 1 1 1|333 3 2 3 3|111 1 1 1 1|
222 2 2 2 2|222 3 2 3 2|433 4 3 4 3|221 2 2 3 2|232 3 2 3 3|333 3 4 3 2|111 1 1 1 1|111 1 1 1 1|121 2 1 1 1|232 2 2 2 2|121 1 1 1 1|
222 2 2 2 2"""


def from_rows(rows):
    """Ratings from one row an observer, None where there is no value."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Ratings([f"r{number:03}" for number in range(len(columns))], [f"a{number}" for number in range(len(rows))], columns)


def from_text(rows, number=False):
    """The same from texts of one character a value, * where there is none."""
    return from_rows([[None if each == "*" else int(each) if number else each for each in row] for row in rows])


def annotations(field, people, start=START, step=10):
    """Submitted annotations from `{"name": [value or None, …]}`, one record after the other, `step` seconds apart."""
    return [Annotation(f"r{place:03}", field, name, value, "submitted", start + timedelta(seconds=step * (place + 1)))
            for name, values in people.items() for place, value in enumerate(values) if value is not None]
