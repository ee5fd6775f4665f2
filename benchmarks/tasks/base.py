"""What a task is: files, training sources, classification data and prompts, and the table that it fills."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import ClassVar

from cringe.data import Example, Feedback, Stratum


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """A file of a data set, in the layout of ParlAI's data folder."""

    path: str
    """Relative to the data folder, with forward slashes."""
    name: str
    """The file's key in `TaskData.counts`, such as ``decode train``."""
    needed: bool = True
    official_rows: int | None = None
    """Number of records of the official release, in the unit that ``unit`` names."""
    unit: str = "dialogues"
    sha256: str | None = None
    """Where the source publishes one for the file itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationData:
    """Labelled examples for a guide or a judge. ``valid`` and ``test`` are human replies that trained nothing."""

    guide_train: tuple[Example, ...]
    judge_train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """Everything that a task reads from its files."""

    sources: Mapping[str, tuple[Example, ...]]
    """Training examples by source name; strata of the mixture draw from them. The judge's half is not among them."""
    classification: ClassificationData
    prompts: Mapping[str, tuple[Example, ...]]
    """Examples to generate replies for, by evaluation name, their ``response`` being the gold reply."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Records read, for the log and for checks against the official sizes, such as ``decode train`` → 27184."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One number a method gets: a metric over the replies to one set of prompts."""

    metric: str
    """A name in `evaluators.registry`."""
    prompts: str
    """A name in `TaskData.prompts`."""
    title: str


class Task(ABC):
    """A task. Subclasses are stateless; the first line of their module's docstring is what ``--list`` shows."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What is measured, in a few words, for the table's title."""
    aliases: ClassVar[tuple[str, ...]] = ()
    methods: ClassVar[tuple[str, ...]]
    """What ``--methods all`` means, in the order of the table."""
    files: ClassVar[tuple[DataFile, ...]]
    mixture: ClassVar[tuple[Stratum, ...]]
    """The strata of a training batch."""
    prompt_source: ClassVar[str]
    """The training source whose contexts a model generates for when it makes training data."""
    columns: ClassVar[tuple[Column, ...]]
    judged: ClassVar[frozenset[str]]
    """Metrics of the columns that are a judge's verdict."""
    paper_table: ClassVar[str]
    """File name, without ending, of the paper's values in `benchmarks/paper`."""

    def warmup_mixture(self) -> tuple[Stratum, ...]:
        """The strata of a warm-up batch: each source with the share that it has in training, labels struck out."""
        weights = Counter({stratum.source: 0 for stratum in self.mixture})
        for stratum in self.mixture:
            weights[stratum.source] += stratum.weight
        divisor = gcd(*weights.values())
        return tuple(
            Stratum(source=source, feedback=Feedback.UNLABELLED, weight=weight // divisor)
            for source, weight in weights.items()
        )

    def prompt_sets(self) -> tuple[str, ...]:
        """Names of the sets of prompts that the columns are measured on, each once."""
        return tuple(dict.fromkeys(column.prompts for column in self.columns))

    @abstractmethod
    def load(self, folder: Path) -> TaskData:
        """Read the official files below ``folder``.

        Raises:
            DataError: a file is missing, unreadable or not in its documented format.
        """

    @abstractmethod
    def synthesize(self, folder: Path, *, seed: int) -> None:
        """Write generated files in the official formats below ``folder``, from nothing but ``seed``."""
