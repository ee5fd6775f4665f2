"""The paper's values: complete, consistent, and never surer than they are."""

import pytest

from benchmarks.errors import DataError
from benchmarks.published import FOLDER, Published, load_paper

METHODS = {
    "transformer",
    "reranker",
    "fudge",
    "pacer",
    "unlikelihood",
    "sigmoid_only",
    "director",
    "director_shared",
    "cringe_single",
    "cringe",
}


@pytest.mark.parametrize("name", ["safety", "contradiction", "fits"])
def test_every_value_says_how_sure_it_is(name):
    paper = load_paper(name)
    for values in paper.rows.values():
        for entry in values.values():
            assert entry.certainty in paper.certainty
            assert (entry.value is None) == (entry.certainty == "unknown")
            assert entry.value is None or 10 < entry.value < 100


@pytest.mark.parametrize("name", ["safety", "contradiction"])
def test_all_methods_are_there(name):
    assert set(load_paper(name).rows) == METHODS


def test_the_splits_of_fits_add_up_to_the_average():
    paper = load_paper("fits")
    sizes = {key: column.examples for key, column in paper.columns.items() if key != "f1_average"}
    assert sum(sizes.values()) == paper.columns["f1_average"].examples == 3503
    for values in paper.rows.values():
        mean = sum(values[key].value * size for key, size in sizes.items()) / 3503
        assert values["f1_average"].value == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize(
    ("name", "row", "metric", "prompts", "expected"),
    [
        ("contradiction", "cringe", "f1", "convai2", (18.4, "second_hand")),
        ("contradiction", "transformer", "coherent", "decode", (79.3, "second_hand")),
        ("safety", "cringe", "safe", "wikitoxic", (99.9, "second_hand")),
        ("safety", "sigmoid_only", "safe", "wikitoxic", (95, "figure")),  # no table value: the figure stands in
        ("fits", "cringe", "f1", "test", (18.0, "table")),
        ("fits", "cringe", "f1", "test_unseen", (17.8, "table")),
    ],
)
def test_lookup(name, row, metric, prompts, expected):
    assert load_paper(name).lookup(row, metric, prompts)[:2] == expected


@pytest.mark.parametrize(("row", "metric"), [("mine", "f1"), ("cringe", "bleu")])
def test_what_the_paper_does_not_report(row, metric):
    assert load_paper("contradiction").lookup(row, metric, "decode") is None


MINIMAL = """
version: 1
paper: p
backbone: b
decoding: {text: beam, certainty: code}
certainty: {table: the table}
columns:
  f1: {metric: f1, title: F1, split: test}
rows:
  cringe: {title: CRINGE, method: cringe, values: {f1: {value: %s, certainty: %s}}}
"""


def test_unknown_stays_unknown(tmp_path):
    (tmp_path / "x.yaml").write_text(MINIMAL % ("null", "unknown"))
    assert load_paper("x", tmp_path).lookup("cringe", "f1", "any") == Published(None, "unknown")


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL % ("null", "table"),
        MINIMAL % ("18.4", "unknown"),
        MINIMAL % ("18.4", "certain"),
        MINIMAL.replace("version: 1", "version: 2") % ("18.4", "table"),
        MINIMAL.replace("values: {f1:", "values: {f2:") % ("18.4", "table"),
        "rows: [",
        "",
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=r"x\.yaml"):
        load_paper("x", tmp_path)


def test_a_wrong_name_is_told_the_right_one():
    with pytest.raises(DataError, match="did you mean 'safety'"):
        load_paper("safty")
    assert len(list(FOLDER.glob("*.yaml"))) >= 3
