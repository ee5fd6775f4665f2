"""The gate from end to end: made-up runs that are fine or not, and, marked slow, runs with CRINGE's sign flipped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import benchmarks
from benchmarks.compare import main
from benchmarks.config import resolve
from benchmarks.plan import Row, make_plan
from benchmarks.report import make_table, write_table
from benchmarks.tasks import registry as tasks

METHODS = ("transformer", "unlikelihood", "cringe_single", "cringe")
FEW = ("transformer", "cringe_single", "cringe")
TRAINED = ("backbone", *METHODS)
N = 80
JUDGE = {
    "name": "small judge",
    "accuracy": 0.81,
    "sensitivity": 0.8,
    "specificity": 0.82,
    "brier": 0.13,
    "auc": {"value": 0.85, "low": 0.8, "high": 0.89, "n": 400},
    "reads": "own_turns",
    "threshold": 0.5,
    "n": 400,
    "negatives": 200,
    "weak": False,
}
SPENT = {"updates": 40, "examples": 320, "target_tokens": {"positive": 9}, "order_digest": "a", "seconds": 2.5}
HOSTILE = "\x1b[2Jclear \u202e |<b>"
"""As a reply: it would wipe the terminal and turn the line around."""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def compare(*arguments: str | Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


# Made-up runs


def fake_runs(
    results: Path,
    seeds: Sequence[int],
    *,
    names: Sequence[str] = FEW,
    shifts: Mapping[str, float] | None = None,
    replies: int | None = None,
    n: int = N,
    salt: str = "",
    nucleus: bool = False,
) -> Path:
    """Lay down a finished run; the table's folder.

    Args:
        results: where.
        seeds: of every row.
        names: of the methods.
        shifts: by method, what is added to the log odds of every good score.
        replies: of the method that is shifted, how many are different; None: all.
        n: prompts of each set.
        salt: in the prompts' names.
        nucleus: is that a second decoding?
    """
    settings = [f"prompts={n}", "cringe.decoding=beam", "cringe_extra.decoding=beam"]
    settings += [] if nucleus else ["decoding.nucleus=null"]
    config = resolve(task="decode", method_names=names, seeds=seeds, overrides=settings)
    task = tasks.load("decode")
    plan = make_plan(config, sources=task.sources, fingerprint=None, device="cpu")
    for row in plan.rows:
        folder = results / row.scores.folder
        if not folder.exists():
            folder.mkdir(parents=True)
            shift = (shifts or {}).get(row.name, 0.0)
            fill(folder, row, list(config.decoding), shift, replies if row.name in (shifts or {}) else None, n, salt)
    assert plan.judge is not None
    write(results / plan.judge.folder / "report.json", JUDGE)
    return write_table(plan, make_table(plan, results), results)


def fill(folder: Path, row: Row, decodings: list[str], shift: float, replies: int | None, n: int, salt: str) -> None:
    """What a stage of scores writes."""
    trained = row.kind in ("backbone", "method")
    seed = row.seed if row.kind == "method" else 0
    parts = [
        # The backbone is one model whatever the seed.
        part(row.name if trained else name, seed, decoding, prompts, shift, replies, n, salt)
        | {"row": "" if trained else name}
        for name in ([row.name] if trained else ["constant", "random", "gold"])
        for decoding in (decodings if trained else ["*"])
        for prompts in ("convai2", "decode")
    ]
    frame = pd.concat([pd.DataFrame(entry) for entry in parts], ignore_index=True)
    frame.to_csv(folder / "scores.csv", index=False)
    keys = frame[["row", "decoding", "prompts"]].drop_duplicates().to_dict("records")
    write(folder / "corpus.json", [key | {"distinct_1": 0.2, "distinct_2": 0.5} for key in keys])
    ledger = {"start": "warmup", "training": SPENT} | ({"rounds": []} if row.name == "cringe" else {})
    write(folder / "ledger.json", ledger if row.kind == "method" else {})
    write(folder / "spec.json", {"device": "cpu", "versions": {"torch": "2.11.0"}})
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as out:
        for record in frame[["row", "decoding", "prompts", "uid"]].to_dict("records"):
            text = HOSTILE if record["uid"].endswith("0") else f"{row.name} {row.seed} says hello"
            out.write(json.dumps(record | {"reply": text, "context": ["hi ."], "gold": "hello ."}) + "\n")
    write(folder / "DONE", {path.name: digest(path) for path in sorted(folder.iterdir())})


def part(
    name: str, seed: int, decoding: str, prompts: str, shift: float, replies: int | None, n: int, salt: str
) -> dict[str, Any]:
    """Scores of one model: those of the prompts, what the seed adds, and chance."""
    dialogues = np.random.default_rng(1).normal(size=n // 2)
    own = np.random.default_rng(draw(name, seed, decoding, prompts))
    odds = dialogues[np.arange(n) // 2] + shift + own.normal(0, 0.15)
    tokens = own.integers(8, 24, n)
    verdicts = (own.random(n) < 1 / (1 + np.exp(-odds - 0.5))).astype(float)
    said = own.integers(1 << 30, size=n) if replies is None else np.arange(n) % replies
    return {
        "decoding": decoding,
        "prompts": prompts,
        "uid": [f"{prompts}{salt}-{index:04}" for index in range(n)],
        "group": [f"{prompts}{salt}-{index // 2}" for index in range(n)],
        "reply_id": [f"{number:08x}" for number in (np.arange(n) if name == "gold" else said)],
        "tokens": tokens,
        "nll": tokens * own.normal(2, 0.2, n),
        "gold_nll": tokens * 3.0,
        "gold_tokens": tokens,
        "f1": own.beta(2, 5, n) / (1 + np.exp(-odds - 2)) if prompts == "convai2" else np.nan,
        "coherent": verdicts if prompts == "decode" else np.nan,
        "preference": own.normal(0.6 + shift / 30, 0.3, n) if prompts == "decode" and name in TRAINED else np.nan,
    }


def draw(*words: object) -> int:
    return int(hashlib.sha256(repr(words).encode()).hexdigest()[:8], 16)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds, the reference's usual number."""
    folder = tmp_path_factory.mktemp("old")
    fake_runs(folder, range(5))
    return folder


@pytest.fixture(scope="module")
def reference(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "tiny"
    assert compare(old, "--record", folder).code == 0
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    fake_runs(folder, [5])
    return folder


def last(done: Done) -> str:
    return done.out.splitlines()[-1]


def failures(done: Done) -> list[str]:
    """What failed, as the lines above the last one say it; the last one counts them."""
    found = [line.removeprefix("failed: ") for line in done.out.splitlines() if line.startswith("failed: ")]
    assert last(done) == (f"gate: FAILED ({len(found)})" if found else "gate: passed")
    return found


# The gate


def test_another_seed_passes(reference: Path, good: Path) -> None:
    done = compare(reference, good, "--gate")
    assert (done.code, last(done)) == (0, "gate: passed"), done.out
    assert "Seeds 0, 1, 2, 3, 4 → 5" in done.out
    assert "fails" not in done.out.split("### Decoding")[1]


def test_a_method_that_became_worse_fails(reference: Path, tmp_path: Path) -> None:
    """What CRINGE with its sign flipped does, as scores: both rows that its loss trains lose, and no other."""
    fake_runs(tmp_path, [5], shifts={"cringe_single": -3.0, "cringe": -3.0})
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert done.code == 1
    assert failures(done)[0].startswith("decode-tiny-synthetic: cringe_single, beam, ")
    failed = {line.split(": ")[1].split(", ")[0] for line in failures(done)}
    assert failed == {"cringe_single", "cringe"}
    assert compare(reference, tmp_path, "--samples", "0").code == 0
    # The other way round it is an improvement.
    better = compare(tmp_path, reference, "--samples", "0")
    assert "better" in better.out
    assert "fails" not in re.sub(r"- .*", "", better.out)


def test_a_collapsed_method_fails(reference: Path, tmp_path: Path) -> None:
    fake_runs(tmp_path, [5], shifts={"transformer": 0.0}, replies=3)
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert done.code == 1
    assert "decode-tiny-synthetic: transformer, beam, distinct %: 100.0 → 3.8, collapsed" in failures(done)


def test_where_the_backbone_moved_seeds_are_not_all_that_differs(reference: Path, good: Path, tmp_path: Path) -> None:
    """Then p is that of the intervals, which are of other prompts too; it is larger, and the table says why."""
    fake_runs(tmp_path / "moved", [5], shifts={"backbone": 0.3, "cringe": -0.8})
    fake_runs(tmp_path / "same", [5], shifts={"cringe": -0.8})
    cells = []
    for name in ("moved", "same"):
        done = compare(reference, tmp_path / name, "--gate", "--samples", "0", "--json", tmp_path / "out.json")
        assert ("The backbone is not the same on both sides" in done.out) == (name == "moved")
        assert ("one-sided" in done.out) == (name == "same")
        (table,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["tables"]
        cells.append({(c["decoding"], c["row"], c["column"]): c["p_holm"] for c in table["cells"] if c["gated"]})
    key = ("beam", "cringe", "Coherent (DECODE) %")
    assert cells[1][key] < cells[0][key]
    assert compare(reference, good).out.count("The backbone is not the same") == 0


def test_what_does_not_depend_on_the_decoding_is_gated_once(tmp_path: Path) -> None:
    """Good over bad is of gold replies: it stands under both decodings, and is one test."""
    fake_runs(tmp_path / "old", range(3), nucleus=True)
    fake_runs(tmp_path / "new", [5], nucleus=True)
    compare(tmp_path / "old", tmp_path / "new", "--gate", "--samples", "0", "--json", tmp_path / "out.json")
    (table,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["tables"]
    found = [c for c in table["cells"] if c["column"].startswith("Good over bad") and c["row"] == "cringe"]
    assert [(c["decoding"], c["gated"]) for c in found] == [("beam", True), ("nucleus", False)]


def test_a_missing_method_fails(reference: Path, tmp_path: Path) -> None:
    fake_runs(tmp_path, [5], names=FEW[:2])
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert done.code == 1
    assert any("decode-tiny-synthetic: cringe, beam: NEW has no F1 (ConvAI2) ×100, " in line for line in failures(done))


def test_a_failed_run_fails(reference: Path, tmp_path: Path) -> None:
    """One of two seeds is not there: what is there would pass."""
    fake_runs(tmp_path, [5, 6])
    (folder,) = tmp_path.glob("decode-cringe-s6-scores-*")
    shutil.rmtree(folder)
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert (done.code, failures(done)) == (1, ["decode-tiny-synthetic: cringe: NEW has no run with seed 6"])
    assert f"{folder.name} is missing" in done.err


def test_a_judge_that_became_weak_fails(reference: Path, tmp_path: Path) -> None:
    fake_runs(tmp_path, [5])
    (judge,) = tmp_path.glob("decode-judge-*")
    write(judge / "report.json", JUDGE | {"weak": True})
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert done.code == 1
    assert "decode-tiny-synthetic: NEW's judge of Coherent (DECODE) % is weak" in failures(done)


def test_the_same_seeds_are_paired(reference: Path, old: Path) -> None:
    done = compare(reference, old, "--gate", "--samples", "0")
    assert (done.code, last(done)) == (0, "gate: passed")
    assert "Seeds 0, 1, 2, 3, 4 on both sides: paired by seed and prompt." in done.out
    values = [line.split("|")[5].strip() for line in done.out.splitlines() if line.startswith("| cringe ")]
    assert len(values) == 6
    assert all(value.split(" ")[0] in ("0.0", "0.00") for value in values)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"n": 60}, "Of up to 80 prompts of convai2, 60 are the same on both sides: only these are compared."),
        ({"salt": "x"}, "of decode, 0 are the same on both sides: they are compared as two samples of prompts."),
        ({"shared_judge": True}, "The settings differ: shared_judge false → true."),
    ],
)
def test_only_the_code_may_differ(reference: Path, tmp_path: Path, made: dict[str, Any], said: str) -> None:
    if "shared_judge" in made:
        fake_runs(tmp_path, [5])
        (path,) = (tmp_path / "tables").glob("*/manifest.json")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["settings"]["shared_judge"] = True
        write(path, manifest)
        path.with_name("DONE").unlink()
    else:
        fake_runs(tmp_path, [5], **made)
    told = compare(reference, tmp_path, "--samples", "0")
    assert told.code == 0
    assert said in told.out.replace("\\", "")
    refused = compare(reference, tmp_path, "--gate")
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    assert "next step: run NEW with the settings and data of OLD" in refused.err


def test_a_reference_needs_seeds(good: Path) -> None:
    done = compare(good, good, "--gate")
    assert done.code == 2
    assert "of OLD has fewer than 3 seeds" in done.err
    done = compare(good, good, "--samples", "0")
    assert done.code == 0
    assert "One seed on either side: a claim about these models only" in done.out


def test_several_tables_of_a_kind_must_be_named(old: Path, tmp_path: Path) -> None:
    first, second = fake_runs(tmp_path, [5]), fake_runs(tmp_path, [6])
    done = compare(old, tmp_path)
    assert done.code == 2
    assert first.name in done.err
    assert compare(old, second).code == 0


def test_a_table_of_score_does_not_stand_in_the_way(reference: Path, tmp_path: Path) -> None:
    run = fake_runs(tmp_path, [5])
    scored = run.with_name("decode-tiny-synthetic-mine-0123456789ab")
    shutil.copytree(run, scored)
    manifest = json.loads((scored / "manifest.json").read_text(encoding="utf-8"))
    manifest["settings"]["methods"] = []
    write(scored / "manifest.json", manifest)
    (scored / "DONE").unlink()
    done = compare(reference, tmp_path, "--gate", "--samples", "0")
    assert (done.code, last(done)) == (0, "gate: passed")
    assert f"note: NEW: {scored.name} is left aside: it has no method of a run, and {run.name} has." in done.err
    assert compare(tmp_path, "--record", tmp_path / "reference").code == 0
    assert compare(reference, scored, "--samples", "0").code == 0, "one that is named is taken"


def test_bad_input_ends_in_a_sentence(reference: Path, good: Path, tmp_path: Path) -> None:
    assert compare(reference, tmp_path / "nowhere").code == 2
    assert compare(reference).code == 2
    assert compare(reference, good, "--samples", "-1").code == 2
    assert compare(reference, good, "--record", tmp_path / "there").code == 2
    shutil.copytree(reference, tmp_path / "damaged")
    (tmp_path / "damaged" / "tables" / "decode-tiny-synthetic" / "manifest.json").write_text("{", encoding="utf-8")
    done = compare(tmp_path / "damaged", good)
    assert done.code == 3
    assert "cannot be read as JSON" in done.err


def test_a_path_cannot_move_the_cursor(reference: Path, tmp_path: Path) -> None:
    done = compare(reference, tmp_path / "\x1b[2Jnowhere\u202e")
    assert done.code == 2
    assert r"\x1b[2Jnowhere\u202e" in done.err
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 2, "the next step stays on a line of its own"


def test_a_damaged_reference_is_not_used(reference: Path, good: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path / "damaged")
    path = tmp_path / "damaged" / "decode-tiny-synthetic-cringe-s0" / "scores.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0.1", "0.2"), encoding="utf-8")
    done = compare(tmp_path / "damaged", good, "--gate")
    assert "is damaged (scores.csv)" in done.err


# The reference


def test_a_reference_holds_no_text_and_the_same_bytes_again(old: Path, reference: Path, tmp_path: Path) -> None:
    files = {
        path.relative_to(reference).as_posix(): path.read_bytes() for path in reference.rglob("*") if path.is_file()
    }
    everything = b"".join(files.values()).decode()
    for word in ("hello", "convai2-0", "decode-0", "says", HOSTILE[1:4]):
        assert word not in everything
    assert "seconds" not in everything
    again = tmp_path / "again"
    for _ in range(2):  # the second time over what is there
        assert compare(old, "--record", again).code == 0
        assert files == {
            path.relative_to(again).as_posix(): path.read_bytes() for path in again.rglob("*") if path.is_file()
        }


def test_recording_again_leaves_nothing_behind(old: Path, tmp_path: Path) -> None:
    """Fewer methods than before, and another table's folder beside it that begins with the same words."""
    assert compare(old, "--record", tmp_path / "reference").code == 0
    (tmp_path / "reference" / "decode-tiny-synthetic-mine").mkdir()
    fake_runs(tmp_path / "fewer", range(3), names=FEW[:2])
    assert compare(tmp_path / "fewer", "--record", tmp_path / "reference").code == 0
    names = {path.name for path in (tmp_path / "reference").iterdir()}
    assert "decode-tiny-synthetic-mine" in names
    assert "decode-tiny-synthetic-cringe_single-s2" in names
    assert not [name for name in names if "-cringe-" in name or name.endswith("s4")]


def test_a_reference_is_whole_or_is_not(tmp_path: Path) -> None:
    fake_runs(tmp_path, range(3))
    (folder,) = tmp_path.glob("decode-cringe-s1-scores-*")
    shutil.rmtree(folder)
    done = compare(tmp_path, "--record", tmp_path / "reference")
    assert done.code == 1
    assert "a reference must be whole" in done.err
    assert not (tmp_path / "reference").exists()


# What is shown


def test_replies_that_changed_most(old: Path, good: Path) -> None:
    shown = compare(old, good, "--samples", "3").out
    assert shown.count("Changed most in ") == 3
    blocks = [block.splitlines() for block in shown.split("Changed most in ")[1:]]
    for block in blocks:
        heads = [line for line in block[1:] if line.startswith("  ") and not line.startswith("    ")]
        sizes = [abs(float(old) - float(new)) for old, new in (line.rsplit(": ", 1)[1].split(" → ") for line in heads)]
        assert len(heads) == len({line.split(", ")[3] for line in heads}) == 3
        assert sizes == sorted(sizes, reverse=True)
    assert "says hello" in shown
    hidden = compare(old, good, "--samples", "3", "--no-text").out
    assert hidden.count("Changed most in ") == 3
    assert "says" not in hidden
    assert "Changed most" not in compare(old, good, "--samples", "0").out


def test_what_replies_hold_stays_text(old: Path, good: Path) -> None:
    shown = compare(old, good, "--samples", "200").out
    assert r"\x1b[2Jclear \u202e |<b>" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_reference_shows_the_replies_of_the_new_side(reference: Path, good: Path) -> None:
    shown = compare(reference, good, "--samples", "1").out
    assert re.search(r"OLD: \(seed \d, [\d.]+\) its text is not kept", shown)
    assert re.search(r"NEW: \(seed 5, [\d.]+\) ", shown)
    assert re.search(r", convai2-0\d+: ", shown)


def test_json_holds_all_numbers_and_no_replies(reference: Path, good: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one.json", "two.json"):
        done = compare(reference, good, "--gate", "--json", tmp_path / name)
        texts.append((done.out, (tmp_path / name).read_text(encoding="utf-8")))
    assert texts[0] == texts[1]
    content = json.loads(texts[0][1])
    assert content["gate"] == {"failures": [], "passed": True}
    cells = content["tables"][0]["cells"]
    assert len(cells) == 6 * (1 + len(FEW))
    assert {"p_holm", "difference", "low", "high", "margin", "verdict", "old", "new"} <= cells[0].keys()
    assert "hello" not in texts[0][1]


def test_it_needs_no_torch(reference: Path, good: Path) -> None:
    code = "import sys; from benchmarks.compare import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code, reference, good], check=True, capture_output=True, cwd=root(), env=paths(root())
    )


# The real thing: hours on two cores


def root() -> Path:
    """The folder that holds the packages under test."""
    return Path(benchmarks.__file__).parents[1]


def paths(packages: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(packages)}


def train(packages: Path, results: Path, seed: int) -> Path:
    """Run the gate's methods with one seed; the table's folder. What seeds share is trained once."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.run", "--task", "decode", "--methods", *METHODS, "--seeds", str(seed)),
            *("--preset", "tiny", "--data", "synthetic", "--device", "cpu", "--out", str(results)),
        ],
        env=paths(packages),
        cwd=results.parent,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    written = re.search(r"written to (.+?); every row", done.stderr)
    assert written, done.stderr
    return Path(written[1])


def gate(table: Path) -> Done:
    """Compare with the reference that is kept in git."""
    kept = Path(__file__).parents[2] / "results" / "reference" / "tiny"
    done = compare(kept, table, "--gate", "--samples", "0")
    assert done.code in (0, 1), done.err
    print(f"{table.name}: {'; '.join([last(done), *failures(done)])}")
    return done


@pytest.mark.hours
def test_cringe_with_its_sign_flipped_fails_five_of_five(tmp_path: Path) -> None:
    """A copy of the packages in which one sign is another: the contrast is rewarded, not punished."""
    packages = tmp_path / "packages"
    for name in ("benchmarks", "cringe", "evaluators"):
        shutil.copytree(root() / name, packages / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = packages / "cringe" / "methods" / "cringe_single.py"
    source = path.read_text(encoding="utf-8")
    assert source.count("self.alpha * contrast") == 1
    path.write_text(source.replace("self.alpha * contrast", "-self.alpha * contrast"), encoding="utf-8")
    assert [gate(train(packages, tmp_path / "runs", seed)).code for seed in range(5, 10)] == [1] * 5


@pytest.mark.hours
def test_of_twenty_other_seeds_at_most_one_fails(tmp_path: Path) -> None:
    assert sum(gate(train(root(), tmp_path / "runs", seed)).code for seed in range(5, 25)) <= 1
