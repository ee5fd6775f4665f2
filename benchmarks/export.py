"""Take a trained model along, as a folder that transformers loads without us: ``python -m benchmarks.export``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.carry_out import refusal
from benchmarks.ending import exit_code
from benchmarks.errors import DataError, UsageError, UserError, did_you_mean
from benchmarks.locks import alone
from benchmarks.model_card import card, lost

if TYPE_CHECKING:
    from benchmarks.plan import Plan
    from cringe.methods.base import Method
    from cringe.specs import DecodingSpec

MARK = "export.json"
"""File of an exported folder: what it was made from. A folder that has it may be written anew."""
GENERATION = "generation_config.json"
EXAMPLES = """\
example:
  python -m benchmarks.export results/runs/decode-cringe_single-s0-train-0123456789ab my-model
      then, without us: AutoModelForSeq2SeqLM.from_pretrained("my-model"); my-model/README.md says how to reply with it

exit codes: 0 done, 1 the directory is damaged, 2 wrong usage, 3 there is no model
"""


class Exported(NamedTuple):
    """A folder that was written."""

    folder: Path
    lost: tuple[str, ...]
    """Sentences on what the model was trained or scored with and transformers does not do."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of a run, and what is known of it."""

    run: Path
    """Its directory."""
    name: str
    """Of the row."""
    method: Method | None
    """As the row decodes; None for the backbone that all methods start from."""
    decodings: Mapping[str, DecodingSpec]
    """That it was scored under; the first is what the folder decodes with."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export",
        description="Write a trained model as a save_pretrained folder, with a model card.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN_DIRECTORY", type=Path, help="the directory of a training, or of the warm-up"
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write; new, empty, or an earlier export")
    parser.add_argument(
        "--decoding", metavar="NAME", help="that the folder decodes with, of those that the model was scored under"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(partial(_export, options), then="the same command exports it whole")


def _export(options: argparse.Namespace) -> int:
    model = _found(options.run, options.decoding)
    tell(_writable(model, options.folder))
    return 0


def tell(exported: Exported) -> None:
    """Say where a model was written, and what of it transformers does not do."""
    print(f"exported to {exported.folder}; README.md there says how to load it and to reply with it")
    for sentence in exported.lost:
        print(f"note: {exported.folder.name}: {sentence}")


def export_plan(plan: Plan, results: Path, folder: Path) -> Iterator[Exported]:
    """Write the trained model of every method and seed of a plan to ``folder/TASK-METHOD-sSEED``.

    A model whose training failed is left out.

    Raises:
        UserError: a training's directory is damaged, or the folder cannot be written to.
    """
    config = plan.config
    for row in plan.rows:
        if row.kind == "method" and row.round is None:
            run = results / row.scores.parents["training"].folder
            if (run / "DONE").exists():
                method, name = config.settings[row.name], f"{config.task}-{row.name}-s{row.seed}"
                model = Model(run=run, name=row.name, method=method, decodings=config.decoding)
                yield _writable(model, folder / name)


def export_model(model: Model, folder: Path) -> Exported:
    """Write a model.

    Args:
        model: of a run.
        folder: new, empty, or an earlier export, which is replaced.

    Raises:
        UserError: the run's directory holds no model or is damaged, or ``folder`` holds something else.
    """
    from benchmarks.runner import damage
    from benchmarks.stages.given_model import model_files

    files = model_files(model.run)
    if broken := damage(model.run):
        raise UserError(
            f"{model.run} is damaged ({', '.join(broken)} missing or not what it was)\n"
            "  next step: the run's command with --repair trains it again"
        )
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else than an exported model\n  next step: name a new folder")
    records = {path.stem: _json(path) for path in sorted(model.run.glob("*.json"))}
    left = tuple(lost(model.method, model.name, records["backbone"], _weights_of_head(model.run)))
    decoding = next(iter(model.decodings.values()), None)
    made_from = {"name": model.name, "made_from": model.run.name, "run": records["spec"], "lost": list(left)}
    with _replacing(folder) as fresh:
        for path in files:
            shutil.copyfile(path, fresh / path.name)
        _write_json(fresh / GENERATION, generation_config(records.get("generation_config", {}), decoding))
        _write_json(fresh / MARK, made_from)
        text = card(model.name, model.method, records, model.decodings, left)
        (fresh / "README.md").write_text(text, encoding="utf-8")
    return Exported(folder, left)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes the place of ``folder`` when all is written; two commands do so in turn."""
    with alone(folder.parent / f".{folder.name}.lock"):
        fresh, old = (folder.parent / f".{folder.name}.{what}" for what in ("unfinished", "replaced"))
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        try:
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        finally:
            for left in (fresh, old):
                shutil.rmtree(left, ignore_errors=True)


def generation_config(stored: Mapping[str, Any], decoding: DecodingSpec | None) -> dict[str, Any]:
    """A decoding in the words of transformers' `generation_config.json`, over the ids that the model's own names."""
    kept = {key: value for key, value in stored.items() if key.endswith("_token_id") or key == "transformers_version"}
    if decoding is None:
        return kept
    words: dict[str, Any] = {
        "do_sample": decoding.sampled,
        "num_beams": decoding.beams,
        "min_new_tokens": decoding.min_new_tokens,
        "max_new_tokens": decoding.max_new_tokens,
        "no_repeat_ngram_size": decoding.no_repeat_ngram,
        "encoder_no_repeat_ngram_size": decoding.no_context_ngram,
        "renormalize_logits": True,
    }
    if decoding.beams > 1:
        words["length_penalty"] = decoding.length_penalty
    if decoding.sampled:
        words |= {"top_p": decoding.top_p, "top_k": 0}
    return kept | words


def _writable(model: Model, folder: Path) -> Exported:
    """Turn what the disk refuses into a sentence."""
    try:
        return export_model(model, folder)
    except OSError as error:
        raise UserError(refusal("write a model to", folder, error)) from error


def _found(run: Path, decoding: str | None) -> Model:
    """A model by its directory: what was done with it stands in the directories beside it."""
    from cringe.methods import registry as methods

    if not (run / "spec.json").is_file():
        hint = "name the directory of a training, such as decode-cringe_single-s0-train-… in a folder of results"
        raise DataError("is not the directory of a run (there is no spec.json)", path=run, hint=hint)
    spec = _json(run / "spec.json")
    settings = spec["settings"]
    method = None
    if "method" in settings:
        method = methods.load(settings["method"]).model_validate(settings["hyperparameters"])
    decodings = scored_under(run, spec["key"])
    if decoding is not None:
        if decoding not in decodings:
            raise UsageError(f"--decoding {decoding}: not scored under it; {did_you_mean(decoding, decodings)}")
        decodings = {decoding: decodings[decoding], **decodings}
    return Model(run=run, name=settings.get("method", "backbone"), method=method, decodings=decodings)


def scored_under(run: Path, key: str) -> dict[str, DecodingSpec]:
    """The decodings that a model was scored under, by name; none where its scores do not lie beside it."""
    from cringe.specs import DecodingSpec

    specs = [_json(path) for path in sorted(run.resolve().parent.glob("*/spec.json"))]
    replies = {spec["key"]: spec["settings"]["decoding"] for spec in specs if spec["kind"] == "generate"}
    found = {
        role.removeprefix("replies-"): replies[parent]
        for spec in specs
        if spec["kind"] == "score" and spec["parents"].get("tested") == key
        for role, parent in spec["parents"].items()
        if role.startswith("replies-") and parent in replies
    }
    return {name: DecodingSpec.model_validate(found[name]) for name in sorted(found)}


def _weights_of_head(run: Path) -> tuple[str, ...]:
    """Names of the weights of a head, if the model has one."""
    from safetensors import safe_open

    if not (run / "head.safetensors").exists():
        return ()
    with safe_open(run / "head.safetensors", "numpy") as file:
        return tuple(sorted(file.keys()))


def _json(path: Path) -> Any:  # noqa: ANN401 - JSON is of any type
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON ({error})", path=path, hint="run again what made it") from error


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
