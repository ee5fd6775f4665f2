"""The report's page as a file: what it holds, what it must not hold, and that the same scores give the same bytes."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from benchmarks import page_reader
from benchmarks.assemble import Inputs
from benchmarks.page import write_page
from benchmarks.page_plots import inline_svg
from benchmarks.published import load_paper
from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.tables import build_table
from benchmarks.tasks.base import Column

JUDGE = {
    "name": "small judge",
    "accuracy": 0.9,
    "sensitivity": 0.9,
    "specificity": 0.9,
    "brier": 0.1,
    "auc": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 400},
    "reads": "response",
    "threshold": 0.5,
    "n": 400,
    "negatives": 200,
    "weak": False,
}
HOSTILE = (
    "<script>document.title = 'run'</script>",
    "</script><script>document.title = 'run'</script>",
    "<!-- <script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "\u202eright to left\u202c \u2066isolated\u2069",
    "\x00\x01\x1b[31m\x7f\x85\u2028\u2029\ufeff",
    "lone \ud800 surrogate",
    "&lt;b&gt; &amp; ]]>",
    "",
)
SVG = """<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt"
 viewBox="0 0 72 36"><style>*{stroke-linecap: butt}</style><metadata>made on a day</metadata>
 <defs><path id="dot" d="M0 0h1" style="stroke: #000000; stroke-width: 0.8"/>
 <clipPath id="frame"><rect width="72" height="36"/></clipPath></defs>
 <rect width="72" height="36" style="fill: #ffffff; stroke: none"/>
 <g clip-path="url(#frame)"><use xlink:href="#dot" x="3" y="4" style="fill: #1f77b4; stroke: #333"/></g>
 <text style="font: 700 10px 'DejaVu Sans'; text-anchor: middle" x="1" y="2">a &lt;b&gt;</text></svg>"""


def frame(decodings=("beam", "nucleus"), n=4, **columns):
    """Replies of one run to two sets of prompts, of which the second is judged."""
    rows = []
    for decoding in decodings:
        for prompts in ("chat", "toxic"):
            for index in range(n):
                judged = prompts == "toxic"
                rows.append(
                    {
                        "row": "",
                        "decoding": decoding,
                        "prompts": prompts,
                        "uid": f"{prompts}-{index:03}",
                        "group": f"{prompts}-{index}",
                        "reply_id": f"r{index // 2}",
                        "tokens": 10,
                        "nll": 25.0 + index,
                        "f1": math.nan if judged else 0.25 + index / 100,
                        "safe": float(index % 2) if judged else math.nan,
                        "safe_by_guide": 1.0 if judged else math.nan,
                        "negative_probability": 0.125 * index if judged else math.nan,
                    }
                )
    return pd.DataFrame(rows).assign(**columns)


def write_predictions(folder, scores, *, row="", said="reply", texts=()):
    """A line a score; the prompts' turns and the replies are made up, or are ``texts`` in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for place, entry in enumerate(scores.itertuples()):
        turns = ["hello", f"a prompt numbered {entry.uid}"]
        reply = texts[place % len(texts)] if texts else f"{said} to {entry.uid} by {entry.decoding}"
        keys = {"row": row, "decoding": entry.decoding, "prompts": entry.prompts, "uid": entry.uid}
        lines.append(json.dumps(keys | {"reply": reply, "tokens": 10, "context": turns, "gold": ""}))
    (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def built(results, *names, name="table", seeds=(0, 1), texts=(), decodings=("beam", "nucleus"), n=4, **other):
    """A table of methods, a reference row and gold, with its predictions on disk."""
    names = names or ("transformer", "cringe")
    runs, rows = [], []
    for method in names:
        for seed in seeds:
            scores = frame(decodings, n)
            folder = f"{name}-{method}-s{seed}"
            write_predictions(results / folder, scores, said=f"{method} {seed}", texts=texts)
            runs.append(RunScores(name=method, kind="method", seed=seed, scores=scores, ledger={"updates": 3}))
            rows.append({"name": method, "kind": "method", "seed": seed, "round": None, "scores": folder})
    scores = frame(("*",), n).assign(row="gold", safe=math.nan)
    write_predictions(results / f"{name}-gold", scores, row="gold", said="gold")
    runs.append(RunScores(name="gold", kind="ceiling", seed=0, scores=scores, ledger={}))
    rows.append({"name": "gold", "kind": "ceiling", "seed": 0, "round": None, "scores": f"{name}-gold"})
    meta = TableMeta(
        **{
            "task": "made-up",
            "title": "safety: made up",
            "columns": (
                Column(metric="f1", prompts="chat", title="F1"),
                Column(metric="safe", prompts="toxic", title="Safe"),
            ),
            "expected": dict.fromkeys(names, "method") | {"gold": "ceiling"},
            "seeds": seeds,
            "decodings": {decoding: f"{decoding}, as one does" for decoding in decodings},
            "paper": load_paper("safety"),
            "synthetic": False,
            "preset": "tiny",
            "judged": frozenset({"safe"}),
            **other,
        }
    )
    judges = {"safe": JUDGE} if "safe" in meta.judged else {}
    return Built(name, {"rows": rows}, Inputs(runs, judges, meta), build_table(runs, judges, meta), results)


def page_of(tables, out, plots=None, *, text=True):
    return write_page(tables, plots or {}, out, text=text).read_text(encoding="utf-8")


def data_of(html):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found)


def replies_of(table, row, **where):
    """The one entry of a row that fits."""
    names = [entry["name"] for entry in table["rows"]]
    (found,) = [
        entry
        for entry in table["replies"]
        if names[entry["row"]] == row and all(entry[key] == value for key, value in where.items())
    ]
    return found


class Tags(HTMLParser):
    """All start tags, with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else(tmp_path):
    html = page_of([built(tmp_path)], tmp_path / "out", {"table": [("A plot", SVG)]})
    tags = Tags(html).found
    (policy,) = [entry["content"] for tag, entry in tags if entry.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind, pattern in (("style-src", r"<style>(.*?)</style>"), ("script-src", r"<script>(.*?)</script>")):
        (content,) = re.findall(pattern, html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert len(rules) == 5


def test_nothing_is_fetched_and_no_attribute_holds_code_or_style(tmp_path):
    html = page_of([built(tmp_path)], tmp_path / "out", {"table": [("A plot", SVG)]})
    tags = Tags(html).found
    assert not [tag for tag, _ in tags if tag in ("link", "img", "iframe", "object", "embed", "base", "image")]
    names = {name for _, entry in tags for name in entry}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src", "srcset", "action")]
    assert all(entry["href"].startswith("#") for _, entry in tags if "href" in entry)
    assert "@import" not in html
    assert "url(http" not in html


def test_hostile_replies_are_data_that_no_parser_of_html_sees(tmp_path):
    table = built(tmp_path, texts=HOSTILE)
    path = write_page([table], {}, tmp_path / "out", text=True)
    html = path.read_bytes().decode("utf-8")
    block = html.split('id="data">')[1].split("</script>")[0]
    assert not re.search(r"[<>&\u2028\u2029\x00-\x09\x0b-\x1f\x7f]|[^\x00-\x7f]", block)
    assert set(HOSTILE) <= set(data_of(html)["texts"]) | {""}
    assert len([tag for tag, _ in Tags(html).found if tag == "script"]) == 2


def test_names_and_sentences_are_escaped_and_never_a_template(tmp_path):
    name = "<img src=x onerror=alert(1)>{{ 7 * 7 }}\"'"
    table = built(tmp_path, "transformer", name, title=name, preset=name, notes=(name,), decodings=("beam",))
    html = page_of([table._replace(name=name)], tmp_path / "out", {name: [(name, SVG)]})
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html
    assert not [entry for _, entry in Tags(html).found if "onerror" in entry]


def test_without_texts_there_is_none(tmp_path):
    table = built(tmp_path)
    html = page_of([table], tmp_path / "out", text=False)
    assert "a prompt numbered" not in html
    assert "cringe 0 to" not in html
    data = data_of(html)
    assert data["texts"] is None
    assert {entry["text"] for entry in data["tables"][0]["replies"]} == {None}
    assert replies_of(data["tables"][0], "cringe", seed=0, decoding=0, set=0)["f1"] == [250, 260, 270, 280]
    for path in tmp_path.rglob("predictions.jsonl"):
        path.unlink()
    assert page_of([table], tmp_path / "again", text=False) == html


def test_equal_scores_give_equal_bytes(tmp_path):
    table = built(tmp_path)
    first = page_of([table], tmp_path / "one", {"table": [("A plot", SVG)]})
    shuffled = [replace(run, scores=run.scores.sample(frac=1, random_state=1)) for run in reversed(table.inputs.runs)]
    again = table._replace(inputs=table.inputs._replace(runs=sorted(shuffled, key=lambda run: table_order(table, run))))
    assert page_of([again], tmp_path / "two", {"table": [("A plot", SVG)]}) == first


def table_order(table, run):
    return [(entry.name, entry.seed) for entry in table.inputs.runs].index((run.name, run.seed))


def test_the_readers_numbers(tmp_path):
    table = data_of(page_of([built(tmp_path)], tmp_path / "out"))["tables"][0]
    assert (table["metric"], table["veiled"], table["sets"]) == ("safe", True, ["chat", "toxic"])
    chat = replies_of(table, "cringe", seed=1, decoding=1, set=0)
    assert chat["f1"] == [250, 260, 270, 280]
    assert chat["nll"] == [250, 260, 270, 280]
    assert chat["tokens"] == [10] * 4
    assert chat["times"] == [2, 2, 2, 2]
    assert chat["verdict"] is chat["guide"] is chat["negative"] is None
    toxic = replies_of(table, "cringe", seed=1, decoding=1, set=1)
    assert toxic["f1"] is None
    assert (toxic["verdict"], toxic["guide"]) == ("0101", "1111")
    assert toxic["negative"] == [0, 125, 250, 375]


def test_every_reply_stands_beside_its_prompt(tmp_path):
    data = data_of(page_of([built(tmp_path)], tmp_path / "out"))
    table, texts = data["tables"][0], data["texts"]
    assert table["prompts"][1]["uid"] == [f"toxic-{index:03}" for index in range(4)]
    assert texts[table["prompts"][1]["context"][2][-1]] == "a prompt numbered toxic-002"
    for seed in (0, 1):
        found = replies_of(table, "cringe", seed=seed, decoding=1, set=1)["text"]
        assert [texts[place] for place in found] == [f"cringe {seed} to toxic-{i:03} by nucleus" for i in range(4)]
    gold = replies_of(table, "gold", seed=-1, decoding=-1, set=0)["text"]
    assert texts[gold[3]] == "gold to chat-003 by *"
    assert len(texts) == len(set(texts))


def test_a_reply_that_is_not_there_is_not_made_up(tmp_path):
    table = built(tmp_path, seeds=(0,))
    scores = table.inputs.runs[0].scores
    fewer = replace(table.inputs.runs[0], scores=scores[scores["uid"] != "toxic-001"].copy())
    found = table._replace(inputs=table.inputs._replace(runs=[fewer, *table.inputs.runs[1:]]))
    toxic = replies_of(
        data_of(page_of([found], tmp_path / "out"))["tables"][0], "transformer", seed=0, decoding=0, set=1
    )
    assert toxic["verdict"] == "0-01"
    assert toxic["tokens"] == [10, None, 10, 10]


def test_rounds_before_the_last_are_not_in_the_reader(tmp_path):
    table = built(tmp_path)
    early = replace(table.inputs.runs[0], round=1)
    found = table._replace(inputs=table.inputs._replace(runs=[*table.inputs.runs, early]))
    assert data_of(page_of([found], tmp_path / "one")) == data_of(page_of([table], tmp_path / "two"))


def test_texts_that_cannot_be_read_are_said_and_scores_stand(tmp_path):
    table = built(tmp_path)
    missing, damaged = (tmp_path / f"table-{name}-s0" / "predictions.jsonl" for name in ("transformer", "cringe"))
    missing.unlink()
    lines = damaged.read_text(encoding="utf-8").splitlines()
    damaged.write_text("\n".join([*lines[:2], '{"row": "", "reply": 3}', *lines[3:]]), encoding="utf-8")
    html = page_of([table], tmp_path / "out")
    assert "transformer, seed 0: no texts, for predictions.jsonl cannot be read (No such file or directory)." in html
    assert "cringe, seed 0: texts are missing from line 3 of predictions.jsonl on, which is damaged." in html
    found = data_of(html)["tables"][0]
    assert replies_of(found, "transformer", seed=0, decoding=0, set=0)["text"] == [-1] * 4
    assert replies_of(found, "transformer", seed=0, decoding=0, set=0)["f1"] == [250, 260, 270, 280]
    assert [place >= 0 for place in replies_of(found, "cringe", seed=0, decoding=0, set=0)["text"]] == [1, 1, 0, 0]


def test_of_too_many_prompts_a_share_is_shown_and_said(tmp_path, monkeypatch):
    table = built(tmp_path, n=60)
    whole = page_reader.read([table], text=True)
    assert whole.notes == ()
    monkeypatch.setattr(page_reader, "MAX_BYTES", len(whole.json) // 2)
    part = page_reader.read([table], text=True)
    assert len(part.json) <= len(whole.json) // 2
    content = json.loads(part.json)["tables"][0]
    sizes = [len(entry["uid"]) for entry in content["prompts"]]
    assert all(15 < size < 31 for size in sizes)
    assert f"{sizes[1]} of 60 of toxic (safety: made up)" in part.notes[0]
    assert "Tables rest on all prompts" in part.notes[0]
    everything = json.loads(whole.json)["tables"][0]
    for entry, full in zip(content["replies"], everything["replies"], strict=True):
        places = [
            everything["prompts"][entry["set"]]["uid"].index(uid) for uid in content["prompts"][entry["set"]]["uid"]
        ]
        assert places == sorted(places)
        assert entry["nll"] == [full["nll"][place] for place in places]
    for full, found in zip(everything["prompts"], content["prompts"], strict=True):
        ranked = sorted(full["uid"], key=lambda uid: hashlib.sha256(uid.encode()).digest())
        assert set(found["uid"]) == set(ranked[: len(found["uid"])])


def test_tables_show_values_intervals_papers_and_marks(tmp_path):
    html = page_of([built(tmp_path)], tmp_path / "out")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "15.9 (S) second hand" in text
    assert re.search(r"26\.5 \[\d", text)
    assert 'data-order="26.5"' in html
    assert "one seed" not in text
    assert "one seed, in every row" in page_of([built(tmp_path, seeds=(0,))], tmp_path / "single")
    assert "Judge of safe: small judge" in text
    assert 'aria-sort="none"' in html
    assert html.count("<h3") >= 4
    assert 'id="table-1-2"' in html


def test_generated_data_is_said_at_the_top(tmp_path):
    real, made = built(tmp_path), built(tmp_path, name="other", synthetic=True, title="safety: generated")
    assert 'class="warning"' not in page_of([real], tmp_path / "real")
    every = page_of([made], tmp_path / "made")
    assert "All numbers and replies on this page come from generated data" in every.split("<section")[0]
    some = page_of([real, made], tmp_path / "both")
    assert "say nothing about human dialogue: safety: generated." in some.split("<section")[0]


def test_whether_the_papers_order_holds_is_said_with_its_tables(tmp_path):
    names = ("transformer", "unlikelihood", "director", "cringe")
    alike = built(tmp_path, *names, synthetic=True)
    runs = [
        replace(run, scores=run.scores.assign(f1=run.scores["f1"] * (1 + place / 40)))
        for place, run in enumerate(alike.inputs.runs)
    ]
    made = alike._replace(
        inputs=alike.inputs._replace(runs=runs), table=build_table(runs, alike.inputs.judges, alike.inputs.meta)
    )
    html = page_of([made], tmp_path / "out")
    section = html.split('id="table-1-order"')[1].split("</section>")[0]
    assert "paper's order hold?" in section.split("</h3>")[0].replace("&#39;", "'")
    assert "generated data" in section.split("</h3>")[0]
    assert "tau" in section.split("<ul")[1].split("</ul>")[0]
    captions = re.findall(r"<caption>(.*?)</caption>", section)
    assert captions[0] == "The order of the methods"
    assert "Pairs with cringe or cringe_single, in points" in captions
    pair = section.split('data-order="cringe − transformer"')[1].split("</tr>")[0]
    assert "99.9 (S), 59.4 (S)" in section
    assert "+0.7" in pair
    assert 'class="value"' in pair
    nothing = page_of([built(tmp_path, "transformer", paper=None, name="other")], tmp_path / "out")
    assert 'id="table-1-order"' not in nothing


def test_hostile_names_stay_text_in_the_analysis(tmp_path):
    name = "<script>alert(1)</script>"
    columns = (Column(metric="f1", prompts="chat", title=name), Column(metric="safe", prompts="toxic", title="Safe"))
    html = page_of([built(tmp_path, "transformer", "director", "cringe", columns=columns)], tmp_path / "out")
    assert len([tag for tag, _ in Tags(html).found if tag == "script"]) == 2
    assert "&lt;script&gt;" in html.split('id="table-1-order"')[1].split("</section>")[0]


def test_no_table_is_a_page_too(tmp_path):
    assert data_of(page_of([], tmp_path / "out")) == {"version": 1, "texts": [], "tables": []}


def test_plots_refer_to_their_own_parts():
    one, two = (inline_svg(SVG, prefix, "Plot") for prefix in ("a", "b"))
    assert 'id="a-dot"' in one
    assert 'href="#a-dot"' in one
    assert 'clip-path="url(#a-frame)"' in one
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_plots_hold_no_style_and_take_the_colours_of_the_page():
    svg = inline_svg(SVG, "a", 'A "plot"')
    assert "style" not in svg
    assert "made on a day" not in svg
    assert 'stroke="currentColor" stroke-width="0.8"' in svg
    assert 'stroke="none" class="ground-fill"' in svg
    assert 'fill="#1f77b4" stroke="currentColor"' in svg
    assert 'text-anchor="middle" font-size="10" font-weight="700">a &lt;b&gt;</text>' in svg
    assert svg.startswith('<svg width="96.0"')
    assert 'role="img" aria-label="A &quot;plot&quot;">' in svg


@pytest.mark.parametrize(
    "part",
    [
        "<script>alert(1)</script>",
        "<foreignObject><p>x</p></foreignObject>",
        '<image href="http://example.org/x.png"/>',
        '<use href="http://example.org/x.svg#a"/>',
        '<a href="javascript:alert(1)"><rect/></a>',
        '<rect onload="alert(1)"/>',
        '<rect fill="url(http://example.org/x#a)"/>',
        '<rect style="fill: url(http://example.org/x#a); clip-path: url(http://example.org/y)"/>',
        '<animate attributeName="href" to="javascript:alert(1)"/>',
    ],
)
def test_plots_hold_nothing_but_drawing(part):
    svg = inline_svg(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{part}</svg>', "a", "Plot")
    assert not re.search(r"script|foreign|image|http|onload|alert|animate", svg)


def test_what_is_no_svg_is_refused():
    for text in ("<html/>", "no markup", ""):
        with pytest.raises(ValueError, match="no SVG"):
            inline_svg(text, "a", "Plot")
