"""The command line: quick answers without torch, forms of lists, exit codes and what is said with them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import benchmarks
from benchmarks import carry_out, run
from benchmarks.carry_out import require_whole_shares
from benchmarks.config import RunConfig
from benchmarks.datafolder import GENERATED
from benchmarks.errors import UsageError
from benchmarks.presets import preset_entries
from benchmarks.rebuild import manifests
from benchmarks.tasks import registry as tasks
from benchmarks.tasks import synthetic
from benchmarks.tasks.decode import TASK
from cringe.methods import registry as methods
from evaluators import registry as evaluators

HEAVY = {"torch", "transformers", "pandas", "scipy", "sklearn", "accelerate", "datasets", "matplotlib"}
SOURCE = str(Path(benchmarks.__file__).parents[1])


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process, in an empty folder; argparse's own exits count as exit codes."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PARLAI_DATAPATH", raising=False)

    def call(*arguments: str | Path) -> Answer:
        try:
            code = run.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data folder in the official formats."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_convai2(folder, seed=0, train_dialogues=6, valid_dialogues=3)
    synthetic.write_decode(folder, seed=0, train=20, dev=5, test=4)
    return folder


def dry(*arguments: str | Path) -> list[str | Path]:
    return ["--task", "decode", "--methods", "all", "--data", "synthetic", "--dry-run", *arguments]


# Quick answers


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_help_and_list_answer_at_once_and_import_nothing_heavy(option: str, tmp_path: Path) -> None:
    """Half a second for the whole command; the best of three, for a machine may be busy with something else."""
    environ = os.environ | {"PYTHONPATH": SOURCE}
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.run", option],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - start)
        assert not done.stderr
    assert min(seconds) < 0.5
    script = f"""
import json, sys
from benchmarks.run import main
try:
    main([{option!r}])
except SystemExit as stop:
    assert not stop.code
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--task decod --methods all --set training.updates=x", 2),
        ("--task decode --methods all --data nowhere --device cpu", 3),
        ("--task decode --methods all --data synthetic --dry-run --device cpu", 0),
    ],
)
def test_planning_does_not_wait_for_torch(arguments: str, code: int, tmp_path: Path) -> None:
    script = f"""
import sys
from benchmarks.run import main
assert main({arguments.split()}) == {code}
assert not {{"torch", "transformers"}} & set(sys.modules), "a heavy import"
"""
    environ = os.environ | {"PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_names_every_option_and_the_exit_codes(command: Command) -> None:
    answer = command("--help")
    assert answer.code == 0
    for option in ("task", "methods", "preset", "seeds", "data", "out", "set", "device", "dry-run", "force", "list"):
        assert f"--{option}" in answer.out
    for text in ("--time-limit", "MIN", "--lm-data", "parlai:TEACHER", "hf:NAME", "--judge", "shared", "jsonl:DIR"):
        assert text in answer.out
    assert "--check" in answer.out
    assert "--jobs" in answer.out
    assert "exit codes: 0 done, 1 a run failed or --time-limit left something to do, 2 wrong usage, 3 d" in answer.out
    assert "python -m benchmarks.run --task decode --methods all" in answer.out


def test_list_shows_one_name_a_line_with_a_sentence(command: Command) -> None:
    answer = command("--list")
    assert answer.code == 0
    sections: dict[str, dict[str, str]] = {}
    for line in answer.out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            names = sections.setdefault(line[:-1], {})
        else:
            name, sentence = line.split(maxsplit=1)
            names[name] = sentence
    assert list(sections) == ["tasks", "methods", "evaluators", "presets"]
    assert "also: contradiction" in sections["tasks"]["decode"]
    assert list(sections["methods"]) == list(methods.entries())
    assert list(sections["evaluators"]) == list(evaluators.entries())
    assert list(sections["presets"]) == list(preset_entries())
    assert all(len(sentence) > 15 for names in sections.values() for sentence in names.values())


# Lists


@pytest.mark.parametrize(
    ("option", "words", "expected"),
    [
        (option, form, expected)
        for option, (first, second), expected in (
            ("--seeds", ("4", "2"), ("seeds", (4, 2))),
            ("--methods", ("unlikelihood", "transformer"), ("methods", ("unlikelihood", "transformer"))),
        )
        for form in (
            [option, first, second],
            [option, first, option, second],
            [option, f"{first},{second}"],
            [option, f"{first},", second],
            [option, f"{first},,{second}"],
        )
    ],
)
def test_forms_of_lists(option: str, words: list[str], expected: tuple[str, object]) -> None:
    defaults = ["--methods", "all"] if option != "--methods" else []
    assert getattr(configured("--task", "decode", *defaults, *words), expected[0]) == expected[1]


def test_settings_come_in_several_words_and_repeated() -> None:
    arguments = [
        "--task",
        "decode",
        "--methods",
        "all",
        "--set",
        "training.updates=3",
        "prompts=4",
        "--set",
        "threads=2",
    ]
    config = configured(*arguments)
    assert (config.training.updates, config.prompts, config.threads) == (3, 4, 2)
    # A comma belongs to the value, which is YAML.
    assert configured("--task", "decode", "--methods", "all", "--set", "seeds=[1,2]").seeds == (1, 2)


def configurations(*arguments: str) -> list[tuple[RunConfig, str | None]]:
    return run._configs(run.parser().parse_args([*arguments, "--methods", "all"]))


def configured(*arguments: str) -> RunConfig:
    ((config, _),) = run._configs(run.parser().parse_args(arguments))
    return config


def test_a_task_named_twice_is_run_once() -> None:
    assert configured("--task", "decode", "contradiction,decode", "--methods", "all").task == "decode"


def test_all_tasks_are_those_of_the_paper_and_its_field() -> None:
    """Not the one whose data are the user's; it is still there by name."""
    known = [name for name in tasks.entries() if name != run.OWN_DATA]
    assert {"decode", "convai2", "wikitoxic"} <= set(known)
    found = configurations("--task", "all")
    assert [config.task for config, _ in found] == known
    assert {data for _, data in found} == {None}
    assert next(config.task for config, _ in configurations("--task", "convai2", "all", "decode")) == "convai2"


def test_options_that_are_settings() -> None:
    plain = configured("--task", "decode", "--methods", "all")
    assert (plain.lm_data, plain.shared_judge, plain.changes) == (None, False, ())
    config = configured("--task", "decode", "--methods", "all", "--judge", "shared", "--lm-data", "hf:some/chat")
    assert (config.lm_data, config.shared_judge) == ("hf:some/chat", True)
    assert not configured("--task", "decode", "--methods", "all", "--judge", "independent").shared_judge


# Data of one's own

own_data = pytest.mark.skipif(run.OWN_DATA not in tasks.entries(), reason="no task takes data of one's own")


@own_data
def test_a_folder_of_one_s_own_comes_with_the_task() -> None:
    def places(*arguments: str) -> list[tuple[str, str | None]]:
        return [(config.task, data) for config, data in configurations(*arguments)]

    assert places("--task", "jsonl:mine") == [("jsonl", "mine")]
    assert places("--task", "jsonl:C:/mine") == [("jsonl", "C:/mine")]
    assert places("--task", "jsonl:a", "decode", "jsonl:b", "jsonl:a") == [
        ("jsonl", "a"),
        ("decode", None),
        ("jsonl", "b"),
    ]
    assert places("--task", "jsonl:synthetic") == [("jsonl", "./synthetic")], "a folder, as any other name"
    assert places("--task", "jsonl", "--data", "synthetic") == [("jsonl", "synthetic")]
    assert places("--task", "jsonl:", "--data", "there") == [("jsonl", "there")]


@own_data
@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("jsonl", "--task jsonl: holds data of your own; name their folder: --task jsonl:DIR"),
        ("jsonl:", "--task jsonl: holds data of your own; name their folder: --task jsonl:DIR"),
        ("decode:mine", "--task decode:mine: only jsonl takes a folder; --data names that of other tasks"),
        ("contradiction:mine", "--task contradiction:mine: only jsonl takes a folder"),
        ("all:mine", "--task all:mine: only jsonl takes a folder"),
    ],
)
def test_a_folder_belongs_to_data_of_one_s_own_alone(command: Command, task: str, says: str) -> None:
    answer = command("--task", task, "--methods", "all", "--dry-run")
    assert answer.code == 2
    assert says in answer.err


@own_data
def test_one_folder_of_one_s_own_at_a_time(command: Command) -> None:
    answer = command("--task", "jsonl:mine", "--methods", "all", "--data", "there", "--dry-run")
    assert answer.code == 2
    assert "--task jsonl:mine: names a folder, and --data another; leave out one of them" in answer.err


@own_data
def test_a_folder_of_one_s_own_that_is_missing_or_empty(command: Command, tmp_path: Path) -> None:
    """Generated data never take its place, nor does what $CRINGE_DATA names."""
    answer = command("--task", "jsonl:nowhere", "--methods", "all", "--dry-run")
    assert (answer.code, answer.out) == (3, "")
    assert "does not exist (found 'nowhere')" in answer.err
    answer = command("--task", f"jsonl:{tmp_path}", "--methods", "all", "--dry-run")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith(f"error: jsonl: {tmp_path}: 1 of the 1 files that task 'jsonl' needs are missing:")


# Exit code 2, wrong usage


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], ["task: not given", "methods: not given"]),
        (["--task", "decode"], ["methods: not given"]),
        (["--methods", "all"], ["task: not given"]),
        (["--task", "decod", "--methods", "all"], ["no task 'decod'; did you mean 'decode'?"]),
        (
            ["--task", "decode", "--methods", "cringe_sngle"],
            ["no method 'cringe_sngle'; did you mean 'cringe_single'?"],
        ),
        (dry("--preset", "tinny"), ["no preset 'tinny'; did you mean 'tiny'?"]),
        (dry("--preset", "gone.yaml"), ["preset gone.yaml: cannot be read"]),
        (dry("--set", "training.updaets=3"), ["training.updaets: no such setting; did you mean 'updates'?"]),
        (dry("--seeds", "x"), ["--seeds: not a whole number from 0 on (found 'x')"]),
        (dry("--seeds", "1", "-1"), ["--seeds: not a whole number from 0 on (found '-1')"]),
        (dry("--seeds", "1.5"), ["--seeds: not a whole number from 0 on (found '1.5')"]),
        (dry("--seeds", "9" * 5000), ["--seeds: not a whole number from 0 on (found '999"]),
        (dry("--seeds", "²"), ["--seeds: not a whole number from 0 on (found '²')"]),
        (dry("--jobs", "0"), ["--jobs: must be 1 or more (found 0)"]),
        (dry("--jobs", "many"), ["argument --jobs: invalid int value: 'many'"]),
        (dry("--time-limit", "0"), ["--time-limit: must be a number of minutes above 0 (found 0)"]),
        (dry("--time-limit", "-2.5"), ["--time-limit: must be a number of minutes above 0 (found -2.5)"]),
        (dry("--time-limit", "nan"), ["--time-limit: must be a number of minutes above 0 (found nan)"]),
        (dry("--time-limit", "inf"), ["--time-limit: must be a number of minutes above 0 (found inf)"]),
        (dry("--time-limit", "soon"), ["argument --time-limit: invalid float value: 'soon'"]),
        (dry("--time-limit"), ["argument --time-limit: expected one argument"]),
        (dry("--device", "tpu"), ["argument --device: invalid choice: 'tpu'"]),
        (dry("--nonsense"), ["unrecognized arguments: --nonsense"]),
        (dry("stray", "--seeds"), ["--seeds: expected at least one argument"]),
        (dry("--judge", "guide"), ["argument --judge: invalid choice: 'guide'"]),
        (dry("--lm-data", "blended_skill_talk"), ["lm_data: ", "(found 'blended_skill_talk')"]),
        (dry("--set", "sources=[decod]"), ["sources: task 'decode' has no source 'decod'; did you mean 'decode'?"]),
        (dry("--set", "lm_data=hf:x"), ["lm_data: is not set in a preset or with --set; it has an option of its own"]),
        (["--task", "convai2", "--methods", "fudge", "--dry-run"], ["fudge: needs a guide, and task 'convai2' has no"]),
        (["--task", ",", "--methods", "all"], ["task"]),
        (["--task", "decode", "--methods", ",", "--data", "synthetic", "--dry-run"], ["methods"]),
    ],
)
def test_wrong_usage_says_why_and_ends_with_2(command: Command, arguments: list[str], says: list[str]) -> None:
    answer = command(*arguments)
    assert answer.code == 2
    assert not answer.out
    for text in says:
        assert text in answer.err


def test_everything_that_is_wrong_comes_in_one_message(command: Command) -> None:
    answer = command(
        *("--task", "decod", "--methods", "cringe_sngle", "--seeds", "x", "y", "--jobs", "0"),
        *("--set", "training.updaets=3", "threads=0", "--data", "nowhere"),
    )
    assert answer.code == 2
    assert answer.err.count("error:") == 1
    for text in ("'decod'", "'cringe_sngle'", "found 'x'", "found 'y'", "--jobs", "training.updaets", "threads"):
        assert text in answer.err
    assert answer.err.endswith("  see --help and --list\n")


def test_the_same_error_of_two_tasks_is_told_once(command: Command) -> None:
    answer = command("--task", "decod", "fitz", "--methods", "cringe_sngle")
    assert answer.err.count("no method 'cringe_sngle'") == 1
    assert answer.err.count("no task") == 2


def test_a_device_that_is_not_there(command: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    answer = command(*dry("--device", "cuda"))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: --device cuda: torch finds no CUDA device here; take --device cpu\n"


# Exit code 3, data missing or wrong


def test_a_data_folder_that_is_missing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = command("--task", "decode", "--methods", "all", "--data", "nowhere")
    assert answer.code == 3
    assert answer.err.startswith("error: decode: the data folder that --data names does not exist (found 'nowhere')")
    assert "next step: " in answer.err
    monkeypatch.setenv("CRINGE_DATA", "elsewhere")
    answer = command("--task", "decode", "--methods", "all", "--dry-run")
    assert answer.code == 3
    assert "the data folder that $CRINGE_DATA names does not exist (found 'elsewhere')" in answer.err


@pytest.mark.parametrize("instead", [[], ["--dry-run"], ["--check"]])
def test_an_incomplete_folder_names_all_that_is_missing(
    command: Command, tmp_path: Path, data: Path, instead: list[str]
) -> None:
    needed = [file.path for file in TASK.files if file.needed]
    present = tmp_path / "data" / needed[0]
    present.parent.mkdir(parents=True)
    present.write_bytes((data / needed[0]).read_bytes())
    answer = command("--task", "decode", "--methods", "all", "--data", tmp_path / "data", *instead)
    assert answer.code == 3
    assert all(path in answer.err for path in needed[1:])
    assert needed[0] not in answer.err
    assert not answer.out, "generated data must not be used in their place"


def test_bad_data_are_found_by_check(command: Command, tmp_path: Path, data: Path) -> None:
    copy = tmp_path / "data"
    for file in TASK.files:
        if (data / file.path).exists():
            (copy / file.path).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.path).write_bytes((data / file.path).read_bytes())
    with (copy / "decode/decode_v0.1/test.jsonl").open("a") as file:
        file.write('{"record_id": "cut')
    answer = command("--task", "decode", "--methods", "all", "--data", copy, "--check")
    assert answer.code == 3
    assert "test.jsonl:5: " in answer.err


# Exit code 0, instead of running


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(command: Command) -> None:
    answer = command(*dry("--seeds", "0", "1"))
    assert answer.code == 0
    stages = [line.split() for line in answer.out.splitlines() if not line.startswith("***")]
    assert all(words[:2] == ["to", "do"] for words in stages)
    assert [words[2].rsplit("-", 1)[0] for words in stages].count("decode-warmup") == 1
    # Six methods train a model of their own, and the ones that steer share the transformer's.
    assert sum("-train-" in words[2] for words in stages) == 2 * 6
    assert not list(Path.cwd().iterdir())


def test_a_dry_run_tells_what_is_done(command: Command) -> None:
    first = command(*dry("--out", "out")).out.splitlines()[-1].split()[-1]
    folder = Path("out") / first
    folder.mkdir(parents=True)
    (folder / "scores.csv").touch()
    (folder / "DONE").write_text(json.dumps({"scores.csv": hashlib.sha256().hexdigest()}))
    assert command(*dry("--out", "out")).out.splitlines()[-1] == f"done   {first}"


def test_generated_data_are_said_aloud_and_real_are_named(command: Command, data: Path) -> None:
    answer = command(*dry())
    assert answer.out.startswith("*** GENERATED DATA")
    answer = command("--task", "decode", "--methods", "all", "--dry-run", "--data", data)
    assert "GENERATED" not in answer.out + answer.err
    assert f"data: {data} (--data)" in answer.err


def test_generated_data_in_a_folder_are_said_aloud(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    synthetic.write_convai2(folder, seed=0, train_dialogues=6, valid_dialogues=3)
    (folder / GENERATED).write_text("{}")
    answer = command("--task", "convai2", "--methods", "transformer", "--dry-run", "--data", folder)
    assert answer.code == 0
    assert answer.out.startswith("*** GENERATED DATA")
    assert "convai2-data" not in answer.out


def test_check_counts_data_disk_and_device(command: Command, data: Path) -> None:
    methods = ("transformer", "unlikelihood", "cringe_single")
    options = ("--data", data, "--check", "--device", "cpu", "--out", "o")
    answer = command("--task", "decode", "--methods", *methods, *options)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith(
        "configuration: ok; preset tiny, methods transformer, unlikelihood, cringe_single, seeds"
    )
    assert lines[1] == "stages: 21, done 0"
    assert lines[2] == f"data: ok; {data} (--data)"
    for text in (
        "  decode train: 20 of 27184 in the official release",
        "  decode dev: 5 of 4026 in the official release",
        "  decode test: 4 of 4216 in the official release",
        "  convai2 train: 6 of 17878 in the official release",
    ):
        assert text in lines
    assert sum(line.startswith("disk: ok; about ") and "5 models" in line for line in lines) == 1
    assert lines[-1].startswith("device: cpu, ")
    assert not list(Path.cwd().iterdir())


def test_check_tells_of_a_disk_that_is_too_small(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    answer = command("--task", "decode", "--methods", "all", "--data", "synthetic", "--check")
    assert answer.code == 2
    assert "disk: too little; about " in answer.out


def test_a_folder_that_cannot_be_written_to(command: Command, data: Path) -> None:
    """Where a file stands no folder can be made, whoever asks; permissions would not stop the superuser."""
    Path("file").write_text("mine")
    arguments = ("--task", "decode", "--methods", "all", "--data", data, "--device", "cpu")
    for out in ("file", "file/deeper"):
        answer = command(*arguments, "--out", out)
        assert answer.code == 1
        assert f"error: decode: cannot write results to {out}: " in answer.err
        assert not answer.out
        answer = command(*arguments, "--out", out, "--check")
        assert answer.code == 2
        assert "file cannot be written to; name another folder with --out" in answer.out
    assert Path("file").read_text() == "mine"


def test_links_to_themselves_and_names_that_are_too_long(command: Command, data: Path, tmp_path: Path) -> None:
    for name in ("loop", "loop.yaml"):
        (tmp_path / name).symlink_to(name)
    loop = str(tmp_path / "loop")
    asked = ("--task", "decode", "--methods", "transformer", "--data", data, "--device", "cpu")
    assert "Too many levels" in command(*asked, "--preset", f"{loop}.yaml").err
    for options, code in (((loop,), 1), ((loop, "--check"), 0), (("x" * 300,), 1), (("x" * 300, "--check"), 1)):
        answer = command(*asked, "--preset", "tiny", "--out", *options)
        assert answer.code == code, answer
        assert not code or answer.err.count("next step: ") == 1
    with pytest.raises(UsageError, match="is no folder"):
        manifests(Path(loop))


def test_data_that_one_task_lacks_do_not_stop_the_others(command: Command, data: Path) -> None:
    """Every task is tried, in its turn; the exit code tells of the one that could not be."""
    for order in (("wikitoxic", "convai2", "decode"), ("decode", "wikitoxic", "convai2")):
        answer = command("--task", *order, "--methods", "transformer", "--data", data, "--dry-run")
        assert answer.code == 3
        assert answer.err.count("error: ") == 1
        assert f"error: wikitoxic: {data}: " in answer.err
        assert "wikitoxic/train.csv" in answer.err
        begun = dict.fromkeys(line.split()[2].split("-")[0] for line in answer.out.splitlines())
        assert list(begun) == [name for name in order if name != "wikitoxic"]
    assert command("--task", "decode,convai2", "--methods", "transformer", "--data", data, "--dry-run").code == 0


def test_a_failure_and_missing_data_end_with_the_code_of_missing_data(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_execute", lambda *_: 1)
    assert command("--task", "decode", "wikitoxic", "--methods", "transformer", "--data", data).code == 3
    assert command("--task", "decode", "convai2", "--methods", "transformer", "--data", data).code == 1


def test_a_batch_must_hold_whole_shares_of_the_sources_that_were_found() -> None:
    """Which these are depends on the data, so it is looked at once more when they are known."""
    config = configured("--task", "wikitoxic", "--methods", "transformer", "--set", "training.batch_size=24")
    declared = tasks.load("wikitoxic").sources
    usual = [source for source in declared if source.name in ("convai2", "wikitoxic")]
    require_whole_shares(config, usual)
    with_bad = [source for source in declared if source.name in ("convai2", "wikitoxic", "bad")]
    require_whole_shares(config, with_bad)
    with_two = [source for source in declared if source.name in ("convai2", "wikitoxic", "bad", "diasafety")]
    with pytest.raises(UsageError) as caught:
        require_whole_shares(config, with_two)
    assert str(caught.value).splitlines() == [
        "task 'wikitoxic' trains on convai2, wikitoxic, diasafety, bad, which the batches cannot be shared among:",
        "  warmup.batch_size: a batch of 32 cannot be cut 6 : 1 : 1 : 1 : 1 : 1 : 1; take a multiple of 12",
        "  next step: set the batch sizes, or name the sources to train on, such as --set 'sources=[…]'",
    ]


def test_sources_that_do_not_fit_the_batches_end_with_2_and_do_not_stop_the_others(
    command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(config: RunConfig, sources: object) -> None:
        if config.task == "decode":
            raise UsageError("no whole shares")

    monkeypatch.setattr(carry_out, "require_whole_shares", refuse)
    answer = command("--task", "decode", "convai2", "--methods", "transformer", "--data", data, "--dry-run")
    assert answer.code == 2
    assert answer.err.startswith("error: decode: no whole shares\n")
    assert "convai2-warmup" in answer.out


def test_a_source_that_is_there_in_parts_is_told_of(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    synthetic.write_convai2(folder, seed=0, train_dialogues=6, valid_dialogues=3)
    synthetic.write_wikitoxic(folder, seed=0, comments=300)
    task = tasks.load("wikitoxic")
    bad = [file.path for file in task.files if file.source == "bad" and file.needed]
    (folder / bad[0]).parent.mkdir(parents=True, exist_ok=True)
    (folder / bad[0]).write_text("x")
    answer = command("--task", "wikitoxic", "--methods", "transformer", "--data", folder, "--dry-run")
    assert answer.code == 0
    assert f"note: wikitoxic: source 'bad' is left out, for it lacks {bad[1]}" in answer.err
    others = command("--task", "wikitoxic", "--methods", "transformer", "--data", "synthetic", "--dry-run")
    assert "note:" not in others.err


def test_the_worst_of_several_tasks_is_the_exit_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([0, 1, 0])
    monkeypatch.setattr(run, "_execute", lambda *_: next(codes))
    configs = run._configs(run.parser().parse_args(["--task", "decode", "--methods", "all"]))
    monkeypatch.setattr(run, "_configs", lambda options: configs * 3)
    assert command("--task", "decode", "--methods", "all", "--data", "synthetic").code == 1


def test_interrupted_says_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_execute", interrupt)
    answer = command("--task", "decode", "--methods", "all", "--data", "synthetic")
    assert (answer.code, answer.err) == (130, "interrupted; the same command goes on from here\n")
