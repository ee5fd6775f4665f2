"""LaTeX: every text stays text, the structure holds, and pdflatex takes it where it is installed."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from benchmarks.latex import SPECIAL, document, escaped, to_latex
from benchmarks.published import Published
from benchmarks.table_model import COLLAPSED, Cell, Difference, Row, Section, Table, TableColumn

HOSTILE = r"\input{/etc/passwd} a_b $x^2$ 50% & #1 ~ {c} [d] \\ * -- “q” 中 é Σ × \u202e <i> | …".replace(
    r"\u202e", "\u202e"
)


KNOWN = Published(18.0, "second_hand")


def table(*rows, name="pacer", synthetic=False, differences=(), columns=None):
    columns = columns or (
        TableColumn(key="f1@chat", title="F1 ×100", digits=1, higher_is_better=True, with_paper=True),
        TableColumn(key="safe@toxic", title="Safe %", digits=1, higher_is_better=True, with_paper=True, judged=True),
        TableColumn(key="safe_and_fluent@toxic", title="and fluent %", digits=1, higher_is_better=True, judged=True),
        TableColumn(key="length", title="tokens", digits=1, higher_is_better=None, group="quality"),
    )
    section = Section(
        decoding="beam",
        description="10 beams",
        rows=rows or (row(name),),
        ranking="safe_and_fluent@toxic",
        ranked_by="and fluent %",
        differences=differences,
    )
    return Table(
        title="safe generation",
        synthetic=synthetic,
        preset="tiny",
        columns=columns,
        sections=(section, replace(section, decoding="nucleus")),
        judges=(),
        notes=("Trained on 100 % chat.",),
        ledger=(),
    )


def row(name, kind="method", papers=(KNOWN, None), marks=(), value=20.0):
    first, second = papers
    cell = Cell(value=value, low=value - 1, high=value + 1, n=5, seeds=2)
    cells = (replace(cell, paper=first), replace(cell, paper=second), cell, cell)
    return Row(name=name, kind=kind, cells=cells, marks=marks)


def bare(tex):
    """What is left to TeX as special when escapes and our own commands are taken out."""
    return re.sub(r"\\[A-Za-z]+(\{\})?|\\[{}$&#%_]|\$\\[A-Za-z]+\$|\$-\$|\{[\[\]*]\}|\{\}", "", tex)


def test_every_special_character_is_escaped():
    assert escaped("a_b & 50% #1 {c} $x$") == r"a\_b \& 50\% \#1 \{c\} \$x\$"
    assert escaped("\\") == r"\textbackslash{}"
    assert escaped("~^<|>") == (r"\textasciitilde{}\textasciicircum{}\textless{}\textbar{}\textgreater{}")
    assert not re.search(r"[\\{}$&#%_~^]", bare(escaped("".join(map(chr, range(32, 127))))))
    assert not re.search(r"[\\{}$&#%_~^]", bare(escaped(HOSTILE)))


def test_hyphens_make_no_dash_brackets_no_option_and_strange_letters_no_error():
    assert escaped("a--b---c-d") == "a-{}-b-{}-{}-c-d"
    assert escaped("[x]*") == "{[}x{]}{*}"
    assert escaped("é 中 \u202e \0") == "é {[}U+4E2D{]} {[}U+202E{]} {[}U+0000{]}"
    assert escaped("two\nlines\tand  more") == "two lines and more"
    assert all(escaped(letter) == written for letter, written in SPECIAL.items())


def test_rows_hold_our_values_with_intervals_and_the_papers_with_letters():
    tex = to_latex(table(row("pacer", papers=(KNOWN, Published(None, "unknown")))), "t")
    interval = r"{\scriptsize {[}19.0, 21.0{]}}"
    assert rf"pacer & 20.0 {interval} & 18.0 (S) & 20.0 {interval} & ? & 20.0 {interval} \\" in tex
    assert (
        r" & \multicolumn{2}{c}{F1 $\times$100} & \multicolumn{2}{c}{Safe \%} & \multicolumn{1}{c}{and fluent \%} \\"
        in tex
    )
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}" in tex
    assert r"\begin{tabular}{lrrrrr}" in tex
    assert "tokens" not in tex


def test_every_line_has_as_many_cells_as_the_table_has_columns():
    tex = to_latex(table(row("random", "floor", (None, None)), row("a & b"), row("gold", "ceiling", (None, None))), "t")
    body = re.findall(r"^(?:random|a \\& b|gold) & .*\\\\$", tex, re.MULTILINE)
    assert [re.sub(r"\\&", "", line).count("&") for line in body] == [5] * 6
    assert tex.count(r"\midrule") == 2 * 3  # between floor, methods and ceiling


def test_the_guides_column_stands_beside_the_judges_and_what_a_column_is_is_said():
    score, corrected, quality = "safe_by_guide@toxic", "safe_corrected@toxic", "perplexity@chat"
    shown = TableColumn(key=score, title="by guide %", digits=1, higher_is_better=True, group="judges", note="by it.")
    first = replace(shown, key="safe@toxic", title="Safe %", group="scores", note="")
    hidden = [replace(shown, key=corrected, title="corrected %", note="not"), replace(shown, key=quality, note="no")]
    tex = to_latex(table(columns=(first, shown, *hidden)), "t")
    assert r" & \multicolumn{1}{c}{Safe \%} & \multicolumn{1}{c}{by guide \%} \\" in tex
    assert r"\noindent by guide \%: by it.\par" in tex
    assert tex.count("by it.") == 1
    assert "corrected" not in tex


def test_no_column_of_the_papers_where_it_has_no_value():
    tex = to_latex(table(row("mine", papers=(None, None))), "t")
    assert "paper" not in tex
    assert r"\begin{tabular}{lrrr}" in tex


def test_no_data_is_na_and_marks_are_explained():
    empty = Row(name="fudge", kind="method", cells=(Cell(),) * 4, marks=())
    tex = to_latex(table(empty, row("pacer", marks=(COLLAPSED,))), "t")
    assert r"fudge & n/a & -- & n/a & -- & n/a \\" in tex
    assert r"pacer\textsuperscript{a} & " in tex
    assert r"\textsuperscript{a} collapsed: " in tex
    assert "n/a: no data." in tex


def test_the_best_row_and_its_ties_are_bold_in_the_column_that_ranks():
    differences = (Difference(name="pacer", rank=1), Difference(name="tie", rank=2, ties_with_best=True))
    tex = to_latex(table(row("pacer"), row("tie"), row("worse"), differences=differences), "t")
    lines = {line.split(" ")[0]: line for line in tex.splitlines() if line.endswith(r"\\")}
    assert [lines[name].count(r"\textbf") for name in ("pacer", "tie", "worse")] == [1, 1, 0]
    assert lines["pacer"].endswith(r"& \textbf{20.0} {\scriptsize {[}19.0, 21.0{]}} \\")


def test_generated_data_are_said_to_be_in_every_caption():
    assert to_latex(table(synthetic=True), "t").count("generated data: these numbers say nothing") == 2
    assert "generated data" not in to_latex(table(), "t")


def test_groups_and_environments_close():
    tex = to_latex(table(row(HOSTILE)), "t")
    depth = re.sub(r"\\[{}]", "", tex)
    assert depth.count("{") == depth.count("}")
    for name in ("table", "tabular"):
        assert tex.count(rf"\begin{{{name}}}") == tex.count(rf"\end{{{name}}}") == 2
    assert tex.count(r"\label{tab:t-1}") == tex.count(r"\label{tab:t-2}") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles(tmp_path):
    (tmp_path / "t.tex").write_text(to_latex(table(row(HOSTILE), row("[*"), synthetic=True), "t"), encoding="utf-8")
    (tmp_path / "all.tex").write_text(document(["t.tex"]), encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
