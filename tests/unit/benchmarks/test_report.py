"""The report from made-up runs: all files, the same bytes again, without torch, and honest about what is missing."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks.assemble import MANIFEST
from benchmarks.config import resolve
from benchmarks.plan import make_plan
from benchmarks.rebuild import others, rebuild, rounds, safe_name, training_logs, trials
from benchmarks.report import main, make_table, write_table
from benchmarks.tasks import registry as tasks
from benchmarks.writing import DONE

TEXTS = ("row", "decoding", "prompts", "uid", "group", "reply_id")
SPENT = {
    "updates": 40,
    "examples": 320,
    "source_tokens": 5000,
    "target_tokens": {"positive": 900, "negative": 800, "unlabelled": 1700},
    "forward_passes": 320,
    "backward_passes": 320,
    "generated_tokens": 0,
    "flops": 3e9,
    "order_digest": "abc",
    "seconds": 2.5,
    "peak_memory_bytes": 1 << 28,
}
TEN = (
    *("transformer", "reranker", "fudge", "pacer", "unlikelihood", "sigmoid_only", "director", "director_shared"),
    *("cringe_single", "cringe"),
)
JUDGE = {
    "name": "small judge",
    "accuracy": 0.81,
    "sensitivity": 0.8,
    "specificity": 0.82,
    "brier": 0.13,
    "auc": {"value": 0.85, "low": 0.8, "high": 0.89, "n": 400},
    "reads": "response",
    "threshold": 0.5,
    "n": 400,
    "negatives": 200,
    "weak": False,
    "reliability": [
        {"n": 40, "predicted": p, "observed": p * p, "low": max(0, p * p - 0.1), "high": min(1, p * p + 0.1)}
        for p in (0.1, 0.3, 0.5, 0.7, 0.9)
    ],
}


def fake_runs(results, task="decode", names=("transformer", "cringe", "fudge"), seeds=(0, 1), n=12, **other):
    """Lay down the folder of a finished run with made-up scores; the table's folder."""
    config = resolve(task=task, method_names=names, seeds=seeds, **other)
    the_task = tasks.load(config.task)
    plan = make_plan(config, sources=the_task.sources, fingerprint=None, device="cpu")
    for row in plan.rows:
        folder = results / row.scores.folder
        if not folder.exists():
            folder.mkdir(parents=True)
            fill(folder, the_task, row, config, n)
    if plan.judge is not None:
        (results / plan.judge.folder).mkdir(exist_ok=True)
        (results / plan.judge.folder / "report.json").write_text(json.dumps(JUDGE))
    (results / plan.references.folder).mkdir(exist_ok=True)
    write(results / plan.references.folder / "counts.json", {})
    return write_table(plan, make_table(plan, results), results)


def fill(folder, task, row, config, n):
    """What a stage of scores writes."""
    frame = scores(folder.name, task, row, config, n)
    frame.to_csv(folder / "scores.csv", index=False)
    keys = frame[["row", "decoding", "prompts"]].drop_duplicates().to_dict("records")
    write(folder / "corpus.json", [key | {"distinct_1": 0.2, "distinct_2": 0.5} for key in keys])
    write(folder / "ledger.json", ledger(row, config))
    if row.kind == "method":
        lines = (
            {"step": step, "learning_rate": 1e-3, "loss": 3 / step + 1, "nll": 2 / step + 1, "cringe": 1 / step}
            | {"gradient_norm": 1.0, "negative_share": 0.25}
            for step in range(1, 41)
        )
        (folder / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (folder / "predictions.jsonl").open("w") as out:
        for record in frame[["row", "decoding", "prompts", "uid", "tokens"]].to_dict("records"):
            out.write(json.dumps(record | {"reply": "i like cats .", "context": ["hi ."], "gold": "hello ."}) + "\n")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    write(folder / "DONE", digests)


def write(path, content):
    path.write_text(json.dumps(content))


def scores(name, task, row, config, n):
    """Made-up scores, the same for a folder's name, whatever ran before."""
    draws = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    quality = 0.15 + len(row.name) / 200 + 0.02 * (row.round or 0) + draws.normal(0, 0.003)
    decoded = row.kind in ("backbone", "method")
    parts = []
    for reference in [""] if decoded else ["constant", "gold", "random"]:
        for decoding in config.decoding if decoded else ["*"]:
            for prompts in task.prompt_sets():
                f1 = np.ones(n) if reference == "gold" else draws.beta(2, 2 / quality - 2, n)
                tokens = draws.integers(8, 24, n)
                part = {
                    "row": reference,
                    "decoding": decoding,
                    "prompts": prompts,
                    "uid": [f"{prompts}-{index:04}" for index in range(n)],
                    "group": [f"{prompts}-{index // 2}" for index in range(n)],
                    "reply_id": [f"{reference}{draws.integers(1 << 30):08x}" for _ in range(n)],
                    "tokens": tokens,
                    "nll": tokens * draws.normal(2, 0.3, n),
                    "gold_nll": tokens * 3.0 if decoded else np.nan,
                    "gold_tokens": tokens if decoded else np.nan,
                    "f1": f1,
                    "repetition_4": draws.beta(1, 20, n),
                    "context_repetition_4": draws.beta(1, 10, n),
                }
                for metric in task.judged:
                    verdict = draws.random(n) < 0.3 + 2 * quality
                    judged = any(prompts in (c.over or (c.prompts,)) for c in task.columns if c.metric == metric)
                    for column in (metric, f"{metric}_by_guide"):
                        part[column] = verdict.astype(float) if judged else np.nan
                parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def ledger(row, config):
    if row.kind not in ("backbone", "method"):
        return {}
    decoded = {"updates": 0, "examples": 24, "target_tokens": {}, "generated_tokens": 500}
    found = {
        f"generation {name}": SPENT | decoded | {"seconds": 1.0 + len(row.name) / 8} for name in config.decoding
    } | {"start": "warmup-0"}
    if row.kind == "method":
        found["training"] = SPENT
    if row.name.startswith("cringe") and row.name != "cringe_single":
        found["rounds"] = [{"round": 1, "sentence": "60 generations"}]
        found["generation of training data"] = SPENT | decoded
        found["auxiliary guide"] = SPENT | {"target_tokens": {}}
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder with three tables: two of one task that differ in settings, and one of another task."""
    results = tmp_path_factory.mktemp("runs")
    fake_runs(results)
    fake_runs(results, overrides=["cringe.alpha=5"])
    fake_runs(results, task="fits", names=("transformer", "cringe"))
    return results


@pytest.fixture(scope="module")
def built(finished):
    return rebuild(finished)


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The report of all three tables."""
    out = tmp_path_factory.mktemp("report")
    assert main([str(finished), "--out", str(out)]) == 0
    return out


@pytest.fixture
def runs(finished, tmp_path):
    """A copy that a test may spoil, of the first table alone."""
    shutil.copytree(finished, tmp_path / "runs")
    first, *rest = sorted((tmp_path / "runs" / "tables").iterdir())
    for folder in rest:
        shutil.rmtree(folder)
    assert first.name.startswith("decode-tiny-synthetic-")
    return tmp_path / "runs"


def tables(results):
    return sorted(path.name for path in (results / "tables").iterdir())


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folder_of(results, name, seed=0):
    """The directory of scores of a row of the only table."""
    (manifest,) = (results / "tables").glob(f"*/{MANIFEST}")
    rows = json.loads(manifest.read_text())["rows"]
    return results / next(r["scores"] for r in rows if (r["name"], r["seed"], r["round"]) == (name, seed, None))


def test_all_tables_get_a_folder_each_and_a_page_is_their_index(finished, reported):
    names = tables(finished)
    assert sorted(path.name for path in reported.iterdir()) == [*names, "index.html", "tables.tex"]
    decode, fits = (next(name for name in names if name.startswith(task)) for task in ("decode", "fits"))
    made = {path.name for path in (reported / decode).iterdir()}
    formats = {f"decode-tiny-synthetic.{ending}" for ending in ("md", "csv", "json", "tex")}
    assert (
        formats | {"costs.md", "costs.csv", "scatter-beam.svg", "rounds-beam.svg", "training.svg", "judge.svg"} <= made
    )
    assert {"best-beam.svg", "splits-nucleus.svg"} <= {path.name for path in (reported / fits).iterdir()}


def test_tables_are_those_that_the_run_wrote(finished, reported):
    for name in tables(finished):
        written = contents(finished / "tables" / name)
        made = contents(reported / name)
        shown = written.keys() - {MANIFEST, DONE}
        assert {file: made[file] for file in shown} == {file: written[file] for file in shown}


def test_the_same_bytes_again_in_another_process_without_torch(finished, reported, tmp_path):
    """In one that orders sets and looks for fonts anew."""
    code = (
        "import sys; from benchmarks.report import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules); sys.exit(heavy or code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, finished, "--out", tmp_path / "again"],
        env=os.environ | {"PYTHONHASHSEED": "1", "MPLCONFIGDIR": str(tmp_path / "fonts")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = contents(reported), contents(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_files_that_are_right_already_are_left_alone(runs, tmp_path):
    out = tmp_path / "out"
    main([str(runs), "--out", str(out)])
    plot = next(out.glob("*/training.svg"))
    os.utime(plot, (1, 1))
    main([str(runs), "--out", str(out)])
    assert plot.stat().st_mtime == 1


def test_one_table_by_its_folder(finished, tmp_path, capsys):
    name = tables(finished)[-1]
    assert main([str(finished / "tables" / name), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / name)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [name]
    assert [table.name for table in rebuild(finished / "tables")] == tables(finished)


@pytest.mark.parametrize("spoil", ["remove", "change", "no mark", "no ledger"])
def test_scores_that_are_missing_or_damaged_are_named_and_the_rest_goes_on(runs, tmp_path, capsys, spoil):
    folder = folder_of(runs, "fudge", 1)
    if spoil == "remove":
        shutil.rmtree(folder)
    elif spoil == "change":
        (folder / "scores.csv").write_text((folder / "scores.csv").read_text().replace("0.1", "0.2"))
    else:
        (folder / {"no mark": "DONE", "no ledger": "ledger.json"}[spoil]).unlink()
    assert main([str(runs), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert folder.name in said
    assert ("is missing" if spoil == "remove" else "is damaged (") in said
    text = next((tmp_path / "out").glob("decode-*/decode-*.md")).read_text()
    gap = "no run with seed 1." if spoil == "remove" else "the scores with seed 1 are damaged and not used."
    assert f"fudge: {gap}" in text


def test_a_method_without_any_scores_stays_in_the_table(runs, tmp_path):
    for seed in (0, 1):
        shutil.rmtree(folder_of(runs, "fudge", seed))
    assert main([str(runs), "--out", str(tmp_path / "out")]) == 0
    (table,) = rebuild(runs)
    row = next(row for row in table.table.sections[0].rows if row.name == "fudge")
    assert all(cell.value is None for cell in row.cells)
    assert "fudge" not in {row["name"] for row in table.manifest["rows"]}


def test_changed_predictions_do_not_keep_a_table_from_being_made(runs):
    (folder_of(runs, "fudge") / "predictions.jsonl").unlink()
    said = []
    assert len(rebuild(runs, said.append)) == 1
    assert said == []


def test_nothing_left_is_exit_code_1(runs, tmp_path, capsys):
    for folder in runs.glob("decode-*"):
        shutil.rmtree(folder)
    assert main([str(runs), "--out", str(tmp_path / "out")]) == 1
    assert "no table could be made again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["not JSON", "[]", '{"schema": "cringe.manifest", "version": 1}', "task", "budget"])
def test_a_manifest_that_describes_no_table_is_left_out(runs, what):
    path = next((runs / "tables").glob(f"*/{MANIFEST}"))
    good = path.read_text()
    if what == "task":
        what = json.dumps(json.loads(good) | {"task": "nothing"})
    if what == "budget":
        folder = folder_of(runs, "fudge")
        write(folder / "ledger.json", {"training": SPENT | {"updates": 1}})
        digests = json.loads((folder / "DONE").read_text())
        digests["ledger.json"] = hashlib.sha256((folder / "ledger.json").read_bytes()).hexdigest()
        write(folder / "DONE", digests)
        what = good
    path.write_text(what)
    shutil.copytree(path.parent, path.parent.parent / "zzz")
    (path.parent.parent / "zzz" / MANIFEST).write_text(good)
    said = []
    assert [table.name for table in rebuild(runs, said.append)] == ["zzz"] * (what != good)
    assert f"{path.parent.name}: left out" in said[0]


def test_a_manifest_names_nothing_outside_its_folder(runs, tmp_path):
    path = next((runs / "tables").glob(f"*/{MANIFEST}"))
    folder = folder_of(runs, "fudge")
    shutil.move(folder, tmp_path / folder.name)
    path.write_text(path.read_text().replace(folder.name, f"../{folder.name}"))
    path.with_name(DONE).unlink()
    said = []
    rebuild(runs, said.append)
    assert "is missing" in said[0]


def test_no_table_is_wrong_usage(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "holds no table" in said
    assert "is no folder" in said


def test_without_a_place_to_go_a_report_lies_beside_its_tables(runs):
    assert main([str(runs), "--no-text"]) == 0
    assert (runs / "report" / "index.html").is_file()
    assert main([str(runs), "--no-text"]) == 0, "it is no table of the runs"


def test_a_place_that_cannot_be_written_to_is_said(runs, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert main([str(runs), "--out", str(tmp_path / "out")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_the_same_method_with_other_settings_is_another_configuration(built):
    first, second, fits = built
    found = others(first, [first, second, fits], "beam")
    assert [entry.name for entry in found] == ["cringe"]  # transformer and fudge are the same runs in both
    assert found[0].value("f1@convai2") != others(second, [first, second], "beam")[0].value("f1@convai2")
    assert others(fits, [first, second, fits], "beam") == []
    other_data = second._replace(manifest={**second.manifest, "data": {"file": "hash"}})
    assert others(first, [first, other_data], "beam") == []


def test_trials_that_a_sweep_did_not_choose_are_configurations(built):
    first = built[0]
    rows = {(row["name"], row["seed"], row["round"]): row["scores"] for row in first.manifest["rows"]}
    tried = [
        {
            "method": "cringe",
            "settings": {"alpha": alpha},
            "value": 50.0,
            "chosen": alpha == 1,
            "seed": 0,
            "scores": name,
        }
        for alpha, name in ((0.5, rows["fudge", 0, None]), (1, rows["cringe", 0, None]), (2, "gone"))
    ]
    found = trials(first._replace(manifest={**first.manifest, "trials": tried}))
    assert [entry.name for entry in found["beam"]] == ["cringe"]
    assert found["beam"][0].cells["f1@convai2"].seeds == 1
    assert trials(first) == {}


def test_rounds_end_with_the_row_of_the_table(built):
    first = built[0]
    found = rounds(first)["beam"]
    assert {name: sorted(numbers) for name, numbers in found.items()} == {"cringe": [1, 2]}
    row = next(row for row in first.table.sections[0].rows if row.name == "cringe")
    assert found["cringe"][2].value("f1@convai2") == row.cells[0].value
    assert found["cringe"][1].value("f1@convai2") not in (None, row.cells[0].value)


def test_a_training_log_that_cannot_be_read_is_no_log(runs):
    (folder_of(runs, "fudge") / "training_log.jsonl").write_text("{")
    assert {name: sorted(seeds) for name, seeds in training_logs(rebuild(runs)[0]).items()} == {
        "transformer": [0, 1],
        "cringe": [0, 1],
        "fudge": [1],
    }


def test_names_are_safe_and_unique():
    assert safe_name("../a b/ü<x>") == "_a_b_x_"
    assert safe_name("...") == "unnamed"
    assert safe_name("a", {"a", "a-2"}) == "a-3"


@pytest.mark.slow
@pytest.mark.alone
def test_ten_methods_three_seeds_four_tasks_take_less_than_ten_seconds(tmp_path):
    """Of one processor's time, so that what else the machine does has little say."""
    for task in ("decode", "wikitoxic", "fits", "jsonl"):
        fake_runs(tmp_path / "runs", task=task, names=TEN, seeds=(0, 1, 2), n=500)
    code = "import sys, time; from benchmarks.report import main; main(sys.argv[1:]); print(time.process_time())"
    command = [sys.executable, "-c", code, tmp_path / "runs", "--out", tmp_path / "out"]
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(command, check=True, capture_output=True, env=env)  # finds the fonts
    runs = (subprocess.run(command, check=True, capture_output=True, text=True, env=env) for _ in range(3))
    assert any(float(done.stdout.splitlines()[-1]) < 10 for done in runs)
