"""The whole command at a very small size: what it prints and writes, and that it can be repeated to the byte."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import benchmarks
from benchmarks.budget import EQUAL
from benchmarks.runner import TOKENS, damage
from benchmarks.tasks import synthetic
from benchmarks.tasks.decode import TASK
from evaluators.prevalence import LEAST_SUM
from tests.integration import micro
from tests.integration.micro import outputs

MICRO = micro.preset(updates=10)
METHODS = ["transformer", "unlikelihood", "cringe_single"]
"""Some that train a model of their own on the data alone."""
ALL = list(TASK.methods)
ROWS = ["constant", "random", "backbone", *ALL, "gold"]
STAGES = 52
"""Of all methods and the first round of CRINGE, one seed and two decodings, on data that are there."""


class Run(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str
    results: Path
    seconds: float
    """Of the processor, which does not depend on what else the machine does."""

    @property
    def table(self) -> Path:
        """The folder of the one table."""
        (folder,) = (self.results / "tables").iterdir()
        return folder

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.table / "manifest.json").read_text(encoding="utf-8"))

    @property
    def scores(self) -> dict[str, Path]:
        """The directory of each row's scores."""
        return {row["name"]: self.results / row["scores"] for row in self.manifest["rows"] if row["round"] is None}

    @property
    def grids(self) -> list[list[dict[str, dict[str, str]]]]:
        """The grids of each decoding: texts by row, then by column."""
        sections = self.out.split("\n### What was spent")[0].split("### Decoding: ")[1:]
        return [[read_grid(part) for part in section.split("\n\n") if part.startswith("|")] for section in sections]


def read_grid(text: str) -> dict[str, dict[str, str]]:
    """A pipe table by row and column; of columns with the same name, the last."""
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {name: dict(zip(head[1:], cells, strict=True)) for name, *cells in lines}


def arguments(preset: Path, results: Path, *options: str, methods: str = "all") -> tuple[str, ...]:
    """A run on DECODE."""
    usual = ("benchmarks.run", "--task", "decode", "--preset", str(preset), "--device", "cpu")
    return (*usual, "--methods", methods, "--out", str(results), *options)


def command(preset: Path, results: Path, *options: str, methods: str = "all", site: Path | None = None) -> Run:
    """Carry it out; the processes find modules of ``site`` first."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = [*([] if site is None else [str(site)]), str(Path(benchmarks.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", *arguments(preset, results, *options, methods=methods)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=preset.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "Traceback" not in done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(done.returncode, done.stdout, done.stderr, results, seconds)


def command_here(preset: Path, results: Path, *options: str) -> Run:
    """The same in this process."""
    before = time.process_time()
    said = micro.here(*arguments(preset, results, *options), folder=preset.parent)
    assert "Traceback" not in said.err
    return Run(*said, results, time.process_time() - before)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "micro.yaml"
    path.write_text(MICRO, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few dialogues in the official formats: to the command these are data like any other."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_convai2(folder, seed=0, train_dialogues=40, valid_dialogues=6)
    synthetic.write_decode(folder, seed=0, train=160, dev=30, test=30)
    return folder


@pytest.fixture(scope="module")
def run(preset: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that the others are compared to."""
    return command(preset, tmp_path_factory.mktemp("results") / "runs", "--data", str(data), "--jobs", "1")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Bytes and time of change of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


# What it says and writes


def test_it_ends_well_and_prints_the_table_it_writes(run: Run) -> None:
    assert run.code == 0, run.err
    assert run.out == (run.table / "decode-micro.md").read_text(encoding="utf-8") + "\n"
    assert f"written to {run.table}" in run.err
    assert {path.name for path in run.table.iterdir()} == {
        "decode-micro.md",
        "decode-micro.csv",
        "decode-micro.json",
        "manifest.json",
        "DONE",
    }


def test_the_table_has_all_rows_under_each_decoding(run: Run) -> None:
    assert len(run.grids) == 2
    for scores, judges, quality, differences in run.grids:
        assert list(scores) == list(judges) == list(quality) == ROWS
        assert list(differences) == ["backbone", *ALL]
        assert {head for texts in scores.values() for head, text in texts.items() if text == "n/a"} == {
            next(head for head in scores["gold"] if head.startswith("Coherent and fluent %")),  # of 8 human replies
            "Good over bad (DECODE) ×100",  # of rows that are no models
        }
        assert all(texts["Good over bad (DECODE) ×100"] != "n/a" for name, texts in scores.items() if name in ALL)
        assert {"Coherent and fluent % (weak)", "Coherent and fluent %"} & set(scores["gold"])
        assert "by guide %" in judges["gold"]
        assert "tokens" in quality["gold"]
    assert "Prompts: convai2 8, decode 8; seeds: 1." in run.out


def no_number(key: str, row: str, judge: Mapping[str, Any]) -> bool:
    """Cells that are empty for a reason: too few words or human replies, a text of no model, a judge near chance."""
    if key == "coherent_corrected@decode":
        return bool(judge["sensitivity"] + judge["specificity"] < LEAST_SUM)
    of_a_model = key in ("perplexity@convai2", "preference@decode")
    few = key.startswith("distinct_") or key == "coherent_and_fluent@decode"
    return few or (of_a_model and row in ("constant", "random", "gold"))


def test_plain_lines_tell_how_far_it_is(run: Run) -> None:
    """No terminal, no bars: a line for each stage, with its place among all."""
    said = [line for line in run.err.splitlines() if line.startswith("[")]
    assert len(said) == STAGES
    assert said[0].startswith(f"[1/{STAGES}] decode-")
    assert said[-1].startswith(f"[{STAGES}/{STAGES}] decode-")
    assert "\x1b" not in run.err + run.out


def test_csv_and_json_hold_every_cell(run: Run) -> None:
    entries = rows(run.table / "decode-micro.csv")
    cells = [row for row in entries if row["table"] == "scores"]
    content = json.loads((run.table / "decode-micro.json").read_text(encoding="utf-8"))
    (judge,) = (judge["report"] for judge in content["judges"])
    keys = {column["title"]: column["key"] for column in content["columns"]}
    for section in content["sections"]:
        assert [row["name"] for row in section["rows"]] == ROWS
        for row in section["rows"]:
            for key, cell in zip(keys.values(), row["cells"], strict=True):
                assert (cell["value"] is None, cell["n"]) == (
                    (True, 0) if no_number(key, row["name"], judge) else (False, 8)
                )
    assert content["synthetic"] is False
    assert len(cells) == 2 * len(ROWS) * len(content["columns"])
    assert all((row["value"] == "") == no_number(keys[row["column"]], row["row"], judge) for row in cells)
    assert {row["n"] for row in cells if row["value"]} == {"8"}
    assert {row["generated_data"] for row in entries} == {"false"}
    differences = [row for row in entries if row["table"] == "differences"]
    assert [row["row"] for row in differences] == ["backbone", *ALL] * 2
    assert {row["baseline"] for row in differences} == {"transformer"}
    # One seed is not ranked.
    assert {(row["rank"], row["ties_with_best"]) for row in differences} == {("", "false")}
    assert all((row["p_holm"] == "") == (row["row"] == "transformer") for row in differences)


def test_the_manifest_leads_from_the_table_to_its_runs(run: Run, data: Path) -> None:
    manifest = run.manifest
    assert list(run.scores) == ROWS
    assert [(row["name"], row["round"]) for row in manifest["rows"] if row["round"] is not None] == [("cringe", 1)]
    assert manifest["generated_data"] is False
    assert manifest["settings"]["training"]["updates"] == 10
    assert len(manifest["data"]) == 5
    assert all((data / path).exists() and len(digest) == 64 for path, digest in manifest["data"].items())
    for name in (manifest["judge"], manifest["references"], *(row["scores"] for row in manifest["rows"])):
        assert (run.results / name).is_dir()
        assert damage(run.results / name) == []


def test_every_directory_is_whole_and_nothing_is_left_over(run: Run) -> None:
    folders = [path for path in run.results.iterdir() if path.name.startswith("decode-")]
    assert len(folders) == STAGES
    for folder in folders:
        assert damage(folder) == []
        assert {"DONE", "spec.json", "environment.json"} <= {path.name for path in folder.iterdir()}
    hidden = {path for path in run.results.rglob("*") if path.is_file() and path.parent.name.startswith(".")}
    assert {path.parent.name for path in hidden} <= {TOKENS}
    assert {path.suffix for path in hidden} <= {".arrow", ".blake2b"}
    assert not list(run.results.rglob("*.pt")) + list(run.results.rglob("*.bin")) + list(run.results.rglob("*.pkl"))


def test_predictions_and_scores_are_of_the_same_replies(run: Run) -> None:
    for name, folder in run.scores.items():
        predictions, scores = lines(folder / "predictions.jsonl"), rows(folder / "scores.csv")
        references = name in ("constant", "random", "gold")
        # 8 prompts of either set, for each of two decodings or of three references.
        assert len(predictions) == len(scores) == 8 * 2 * (3 if references else 2)
        for prediction, score in zip(predictions, scores, strict=True):
            for key in ("row", "decoding", "prompts", "uid"):
                assert prediction[key] == score[key]
            assert 0 <= float(score["f1"]) <= 1
            assert bool(score["coherent"]) == (score["prompts"] == "decode")
            assert isinstance(prediction["reply"], str)
            assert prediction["gold"]
        assert {score["decoding"] for score in scores} == ({"*"} if references else {"beam", "nucleus"})


def test_every_row_answers_the_same_prompts(run: Run) -> None:
    asked = {
        name: {(record["prompts"], record["uid"]) for record in lines(folder / "predictions.jsonl")}
        for name, folder in run.scores.items()
    }
    assert len(asked["gold"]) == 16
    assert all(prompts == asked["gold"] for prompts in asked.values())


def test_references_are_what_they_are_called(run: Run) -> None:
    records = lines(run.scores["gold"] / "predictions.jsonl")
    by_row = {row: [record for record in records if record["row"] == row] for row in ("constant", "random", "gold")}
    assert len({record["reply"] for record in by_row["constant"]}) == 1
    assert len({record["reply"] for record in by_row["random"]}) > 4
    assert all(record["reply"] == record["gold"] for record in by_row["gold"])
    scores = [row for row in rows(run.scores["gold"] / "scores.csv") if row["row"] == "gold" and row["f1"]]
    assert {float(row["f1"]) for row in scores} == {1.0}


def test_all_methods_had_one_budget(run: Run) -> None:
    """Law 1, read from the ledgers that the table is made from."""
    ledgers = {name: json.loads((run.scores[name] / "ledger.json").read_text()) for name in METHODS}
    first = ledgers["transformer"]
    assert first["training"]["updates"] == 10
    assert first["training"]["examples"] == 80
    assert all(first["training"]["target_tokens"][feedback] > 0 for feedback in ("positive", "negative", "unlabelled"))
    for ledger in ledgers.values():
        assert ledger["start"] == first["start"]
        assert {name: ledger["training"][name] for name in EQUAL} == {name: first["training"][name] for name in EQUAL}
        assert ledger["training"]["order_digest"]
        for decoding in ("beam", "nucleus"):
            assert ledger[f"generation {decoding}"]["examples"] == 16
    backbone = json.loads((run.scores["backbone"] / "ledger.json").read_text())
    assert "training" not in backbone


def test_methods_are_not_all_the_same_model(run: Run) -> None:
    weights = {next(run.results.glob(f"decode-{name}-s0-train-*")) / "model.safetensors" for name in METHODS}
    weights |= {next(run.results.glob("decode-warmup-*")) / "model.safetensors"}
    assert len({path.read_bytes() for path in weights}) == 4


# Again


def test_the_same_command_again_changes_no_byte(run: Run, preset: Path, data: Path) -> None:
    before = tree(run.results)
    again = command(preset, run.results, "--data", str(data), "--jobs", "1")
    assert (again.code, again.out) == (0, run.out)
    assert tree(run.results) == before
    assert again.seconds < 5


def test_a_fresh_run_with_two_jobs_is_equal_to_the_byte(run: Run, preset: Path, data: Path, tmp_path: Path) -> None:
    """The same in another folder, by other processes, side by side, which also orders the stages in another way."""
    two = command(preset, tmp_path / "two", "--data", str(data), "--jobs", "2")
    assert (two.code, two.out) == (0, run.out)
    assert outputs(two.results) == outputs(run.results)
    assert sum(name.endswith("predictions.jsonl") for name in outputs(run.results)) == len(ALL) + 3


def test_changed_data_are_other_data(run: Run, preset: Path, data: Path, tmp_path: Path) -> None:
    """One byte in one file, and nothing of the old results is taken for the new."""
    copy = tmp_path / "data"
    for path in data.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(data)).write_bytes(path.read_bytes())
    before = command_here(preset, run.results, "--data", str(copy), "--dry-run").out
    assert {line.split()[0] for line in before.splitlines()} == {"done"}
    with (copy / "decode/decode_v0.1/dev.jsonl").open("a") as file:
        file.write("\n")
    after = command_here(preset, run.results, "--data", str(copy), "--dry-run").out
    assert {line.split()[0] for line in after.splitlines()} == {"to"}


def test_damaged_results_are_refused_in_one_sentence(run: Run, preset: Path, data: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.results, tmp_path / "copy")
    scores = next((tmp_path / "copy").glob("decode-cringe_single-s0-scores-*"))
    content = bytearray((scores / "scores.csv").read_bytes())
    content[-3] ^= 1
    (scores / "scores.csv").write_bytes(content)
    refused = command_here(preset, tmp_path / "copy", "--data", str(data))
    assert refused.code == 1
    assert f"{scores.name}: scores.csv" in refused.err
    assert "--repair" in refused.err
    assert not refused.out


# What fails


def test_a_method_that_fails_leaves_the_other_rows(run: Run, preset: Path, data: Path, tmp_path: Path) -> None:
    """A weight at which the loss is infinite: only training can know."""
    import shutil

    results = tmp_path / "results"
    shutil.copytree(run.results, results)
    shutil.rmtree(results / "tables")
    failed = command_here(preset, results, "--data", str(data), "--jobs", "1", "--set", "cringe_single.alpha=1e39")
    assert failed.code == 1
    assert "failed: decode-cringe_single-s0-train: ValueError: the loss is not finite by step 10" in failed.err
    (log,) = (results / "failures").iterdir()
    assert f"traceback in {log}" in failed.err
    assert log.read_text().startswith("Traceback")
    for what in ("beam", "nucleus", "scores"):
        assert f"not tried, for what it needs failed: decode-cringe_single-s0-{what}" in failed.err
    for scores, judges, quality, differences in failed.grids:
        assert list(scores) == list(judges) == list(quality) == ROWS
        for grid, title in ((scores, "F1 (ConvAI2) ×100"), (judges, "by guide %"), (quality, "tokens")):
            assert [name for name, texts in grid.items() if texts[title] == "n/a"] == ["cringe_single"]
        assert set(differences["cringe_single"].values()) == {"–"}
    notes = failed.out.split("\n- ")[1:]
    assert any("cringe_single" in note for note in notes), "the missing row is named under the table"
    # The rest is what it was.
    table = json.loads((failed.table / "decode-micro.json").read_text())
    whole = json.loads((run.table / "decode-micro.json").read_text())
    for section, other in zip(table["sections"], whole["sections"], strict=True):
        for row, same in zip(section["rows"], other["rows"], strict=True):
            if row["name"] == "cringe_single":
                assert all(cell["value"] is None for cell in row["cells"])
            else:
                assert [cell["value"] for cell in row["cells"]] == [cell["value"] for cell in same["cells"]]


# Generated data

FEWER = """\
from benchmarks.tasks import synthetic


def fewer(write):
    def changed(folder, *, seed, **sizes):
        write(folder, seed=seed, **{name: size // 40 for name, size in sizes.items()})

    return changed


synthetic.write_convai2, synthetic.write_decode = map(fewer, (synthetic.write_convai2, synthetic.write_decode))
"""
"""What every process of a command loads first: how many data there are is no matter here."""


def test_generated_data_are_said_aloud_everywhere(preset: Path, tmp_path: Path) -> None:
    """In the log, the title, the file names and every line of the CSV."""
    (tmp_path / "sitecustomize.py").write_text(FEWER, encoding="utf-8")
    options = ("--data", "synthetic", "--jobs", "1")
    spoken = command(preset, tmp_path / "runs", *options, methods="transformer", site=tmp_path)
    assert spoken.code == 0, spoken.err
    assert spoken.out.startswith("*** GENERATED DATA")
    assert {path.name for path in spoken.table.iterdir()} == {
        "decode-micro-synthetic.md",
        "decode-micro-synthetic.csv",
        "decode-micro-synthetic.json",
        "manifest.json",
        "DONE",
    }
    title, _, rest = (spoken.table / "decode-micro-synthetic.md").read_text().partition("\n")
    assert "generated data" in title
    assert "The data are generated" in rest
    assert {row["generated_data"] for row in rows(spoken.table / "decode-micro-synthetic.csv")} == {"true"}
    assert json.loads((spoken.table / "decode-micro-synthetic.json").read_text())["synthetic"] is True
    assert spoken.manifest["generated_data"] is True
