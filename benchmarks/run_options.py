"""The options of ``python -m benchmarks.run``."""

from __future__ import annotations

import argparse

EXAMPLES = """\
examples:
  python -m benchmarks.run --task decode --methods all
      every method of the task at tiny size, on generated data where no other is named
  python -m benchmarks.run --task decode --methods transformer cringe_single --preset cpu --data DIR --seeds 0 1 2
      two methods, three seeds, on the data sets in DIR
  python -m benchmarks.run --task jsonl:DIR --methods all
      on replies of your own, each with a context and a label
  python -m benchmarks.run --task decode --methods all --set training.updates=100 cringe_single.alpha=2
      other settings

exit codes: 0 done, 1 a run failed or --time-limit left something to do, 2 wrong usage, 3 data missing or wrong;
130 interrupted, 143 terminated: the same command goes on
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Compare methods on a task under one budget and print the table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--task",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="tasks, by name or alias; 'all'; jsonl:DIR for data of your own",
    )
    what.add_argument(
        "--methods",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="methods, by name or alias; 'all' are those that the task declares",
    )
    what.add_argument("--seeds", nargs="+", action="extend", metavar="N", help="seeds, instead of the preset's")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--preset",
        default="tiny",
        metavar="NAME",
        help="tiny (default), cpu, small, small_pretrained, paper, or a YAML file",
    )
    how.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="settings over the preset's"
    )
    how.add_argument(
        "--sweep",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUES",
        help="choose a method's setting on validation, such as cringe.alpha=0.5,1,2,5",
    )
    how.add_argument("--data", metavar="DIR", help="folder of the data sets in ParlAI's layout, or 'synthetic'")
    how.add_argument(
        "--lm-data",
        metavar="NAME",
        help="unlabelled dialogue instead of the task's own: parlai:TEACHER or hf:NAME",
    )
    how.add_argument(
        "--judge",
        default="independent",
        choices=["independent", "shared"],
        help="shared: the guide that methods learn from judges them, too, as in the paper; its cells are marked",
    )
    how.add_argument("--out", default="results/runs", metavar="DIR", help="where results go (default: %(default)s)")
    how.add_argument("--export", metavar="DIR", help="also write every trained model there, for transformers to load")
    how.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda"],
        help="auto: cuda where this machine, or a machine of --ray-address, has a GPU",
    )
    how.add_argument("--jobs", type=int, metavar="N", help="stages side by side at most (default: as many as fit)")
    how.add_argument(
        "--executor",
        default="local",
        choices=["local", "ray"],
        help="where stages are done: in processes of this machine (default), or on a Ray cluster",
    )
    how.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="HOST:PORT of the cluster's head, or 'auto' for the one that this machine is a part of (default: start "
        "one of this machine alone)",
    )
    how.add_argument(
        "--time-limit",
        type=float,
        metavar="MIN",
        help="begin no stage after so many minutes, over all tasks and sweeps; those in progress are finished, however "
        "long they take, the table is written from what is there, and the same command goes on from there",
    )
    how.add_argument("--force", action="store_true", help="do again what is done")
    how.add_argument("--repair", action="store_true", help="do again what is damaged: deleted, cut off or changed")
    instead = parser.add_argument_group("instead of running")
    instead.add_argument("--list", action="store_true", help="show tasks, methods, evaluators and presets")
    instead.add_argument("--dry-run", action="store_true", help="show what is done, to do or damaged")
    instead.add_argument("--check", action="store_true", help="check configuration, data, disk and device")
    return parser
