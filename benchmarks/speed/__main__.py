"""How fast it is, against ParlAI, against the plain form of each thing, and against the machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ending import exit_code
from benchmarks.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.speed.rows import Row
    from benchmarks.speed.setting import Setting

MEASURES = {
    "loss": "the CRINGE loss, forwards and backwards, against its published form: time and memory",
    "step": "a CRINGE training step against one of cross-entropy",
    "training": "target tokens a second against ParlAI's",
    "beam": "examples a second of beam search against ParlAI's",
    "decoding": "DIRECTOR, PACER and FUDGE against plain beam search",
    "guide": "the prefix guide with its cache against reading all again",
    "grid": "a tiny grid against the sum of its distinct stages",
    "jobs": "the same grid with --jobs 2 against --jobs 1",
    "commands": "seconds of a report, of a finished command and of --help",
    "gpu": "training, loss and decoding on a GPU against what the card can do",
}
COMMANDS = ("grid", "jobs", "commands")
"""Measures that share a finished grid."""
EXAMPLES = """\
examples:
  python -m benchmarks.speed
      all that can be measured without ParlAI, in about ten minutes on two quiet cores
  python -m benchmarks.speed --only loss step --out speed.json
      two measures, and every second that was measured
  .tox/oracle/bin/python -m benchmarks.speed --against parlai --data DIR
      with ParlAI beside it, on ConvAI2 in DIR
  python -m benchmarks.speed --profile
      instead: where the time of a training step and of a decoding step goes, for each method

A figure is the median of ratios of neighbours: both sides take turns in one process, in an order that alternates, and
the first runs are thrown away. Beside it is the range between the 10th and the 90th percentile.

exit codes: 0 done, whatever was missed; 1 a measure failed, 2 wrong usage, 3 data missing or wrong
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Measure how fast it is; each figure is a ratio, and says whether it meets its target.",
        epilog="measures:\n" + "".join(f"  {name:10}{what}\n" for name, what in MEASURES.items()) + "\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these measures alone")
    parser.add_argument("--against", choices=["parlai"], help="also measure the peer, which must be installed")
    parser.add_argument("--profile", action="store_true", help="instead: where the time goes, method by method")
    parser.add_argument("--data", metavar="DIR", help="folder with ConvAI2 (default: $CRINGE_DATA, else generated)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch on CPU (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table: Markdown if *.md, else JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return exit_code(partial(_run, options), then="nothing is kept")
    except OSError as error:
        print(f"error: cannot read or write: {error.strerror or error} ({error.filename})", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    wanted = _wanted(options.only)
    cores = os.cpu_count() or 1
    if not 1 <= options.threads <= cores:
        raise UsageError(f"--threads: must be 1 to {cores}, the cores of this machine (found {options.threads})")
    if options.profile and (options.only or options.out):
        raise UsageError("--profile: prints the profile of all methods; it takes neither --only nor --out")
    if options.out is not None:
        _make_room(options.out)  # before minutes are spent on what goes there
    # Read when OpenMP starts; stages of the grid that wait must not keep a core from those that work.
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if options.against:
        from benchmarks.speed.parlai_peer import require_parlai

        require_parlai()
    setting = _setting(options)
    if options.profile:
        from benchmarks.speed.profile import profile

        print(profile(setting))
        return 0
    from benchmarks.speed.rows import tally, to_markdown, write
    from benchmarks.speed.setting import machine

    rows = list(_measure(wanted, setting))
    header = machine(setting)
    print(to_markdown(rows, header), end="")
    if options.out is not None:
        write(options.out, rows, header)
        print(f"written to {options.out}: {tally(rows)}", file=sys.stderr)
    return 0


def _wanted(only: Sequence[str] | None) -> list[str]:
    """The measures to take, in their order."""
    names = [part for word in only or MEASURES for part in word.split(",") if part]
    if not names:
        raise UsageError(f"--only: names no measure; known: {', '.join(MEASURES)}")
    for name in names:
        if name not in MEASURES:
            raise UsageError(f"--only: no measure '{name}'; {did_you_mean(name, MEASURES)}")
    return [name for name in MEASURES if name in names]


def _make_room(out: Path) -> None:
    """See that a file can be written, as far as that shows beforehand."""
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder; name a file in it")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise UsageError(f"--out: {out} cannot be written to")


def _setting(options: argparse.Namespace) -> Setting:
    from benchmarks.carry_out import device_kind
    from benchmarks.datafolder import resolve
    from benchmarks.speed.setting import Setting
    from benchmarks.tasks import registry as tasks

    device = device_kind(options.device)
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    return Setting(
        device=device,
        threads=options.threads,
        data=resolve(options.data, os.environ, task=tasks.load("convai2")).folder,
        against_parlai=options.against == "parlai",
    )


def _measure(wanted: Sequence[str], setting: Setting) -> Iterator[Row]:
    """The rows, in order."""
    from benchmarks.speed import commands, decoding, gpu, losses, training

    measures: dict[str, Callable[[Setting], Iterator[Row]]] = {
        "loss": losses.measure,
        "step": training.measure_step,
        "training": training.measure_training,
        "beam": decoding.measure_beam,
        "decoding": decoding.measure_decoding,
        "guide": decoding.measure_guide,
        "commands": partial(commands.measure, wanted=wanted),
        "gpu": gpu.measure,
    }
    asked = [name for name in wanted if name not in COMMANDS]
    last = ["commands"] * any(name in COMMANDS for name in wanted)
    for name in [*(name for name in asked if name != "gpu"), *last, *(name for name in asked if name == "gpu")]:
        yield from measures[name](setting)


if __name__ == "__main__":
    sys.exit(main())
