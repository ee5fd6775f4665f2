"""Tokenised texts on disk: encoded once, mapped into memory, shared by all processes that train on the same data."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cringe.data import Example
from cringe.processes import mark
from cringe.seeding import stable_hash

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from cringe.backbone_base import Backbone

_ROWS = 1000
"""Texts that are encoded and written at a time."""
_REMEMBERED = 1 << 16
"""Texts whose row is remembered: a turn is asked for again with every later turn of its dialogue."""


class TokenCache:
    """Ids of texts, and for some the characters that each token stands for, as rows of an Arrow file.

    A row is found by the hash of its text, so whatever is asked of it is right or None: an example whose response was
    replaced has other ids than before. What a batch is made of is found here faster than it is tokenised, and takes no
    memory of the process but 8 bytes a text.

    Args:
        dataset: columns ``text`` (uint64, rising hashes), ``ids`` and ``offsets`` (lists of int32; offsets are starts
            and stops in turn, or nothing where none were asked for).
        tokenizer: `tokenizer_digest` of what encoded them.
    """

    def __init__(self, dataset: Dataset, tokenizer: str) -> None:
        self.dataset = dataset
        self.tokenizer = tokenizer
        self._row = lru_cache(maxsize=_REMEMBERED)(self._find)
        self._texts: NDArray[np.uint64] = dataset.data.column("text").to_numpy()
        self._ids = _Lists(dataset.data.column("ids"))
        self._offsets = _Lists(dataset.data.column("offsets"))

    @classmethod
    def open(cls, folder: Path, backbone: Backbone, examples: Iterable[Example]) -> TokenCache:
        """The tokens of all texts that the backbone reads of some examples; built where they are not there yet.

        They lie in one file, named after what is in it: the tokenizer and the texts. It is written under another name
        and renamed, so several processes may build it at once; one that is damaged is built again.

        Args:
            folder: where such files are kept.
            backbone: whose tokenizer encodes, and whose specification says how many documents are read.
            examples: their contexts, documents and responses.
        """
        from datasets import Dataset
        from datasets.table import MemoryMappedTable

        texts = _texts(examples, backbone.spec.documents)
        names = list(texts)
        hashes = np.fromiter((stable_hash(name) for name in names), dtype=np.uint64, count=len(names))
        order = np.argsort(hashes)
        spans = np.fromiter(texts.values(), dtype=np.bool_, count=len(names))
        tokenizer = tokenizer_digest(backbone.tokenizer)
        key = hashlib.blake2b(tokenizer.encode(), digest_size=16)
        key.update(hashes[order].tobytes())
        key.update(spans[order].tobytes())
        path = folder / f"tokens-{key.hexdigest()}.arrow"
        if not _intact(path):
            if path.is_dir():
                shutil.rmtree(path)
            rows = ((int(hashes[index]), names[index], bool(spans[index])) for index in order)
            _write(path, rows, backbone)
        # The fingerprint is given, for that which datasets would make of its own needs pickle.
        return cls(Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=key.hexdigest()), tokenizer)

    def __len__(self) -> int:
        return len(self._texts)

    def ids(self, text: str) -> list[int] | None:
        """The ids of a text, without an end token; None where they are not kept."""
        row = self._row(text)
        return None if row is None else self._ids[row].tolist()

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """Of each token of a text the range of characters that it stands for; None where they are not kept."""
        row = self._row(text)
        if row is None or len(self._offsets[row]) != 2 * len(self._ids[row]):
            return None
        return [(first, last) for first, last in self._offsets[row].reshape(-1, 2).tolist()]

    def _find(self, text: str) -> int | None:
        # Among a million texts the hashes of two are equal with a probability of 3e-8.
        wanted = np.uint64(stable_hash(text))
        row = int(np.searchsorted(self._texts, wanted))
        return row if row < len(self._texts) and self._texts[row] == wanted else None


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of all that decides how a tokenizer encodes: its own JSON, and the version of the code that reads it."""
    import tokenizers

    parts = [tokenizers.__version__, tokenizer.backend_tokenizer.to_str()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class _Lists:
    """A column of lists of numbers whose rows are found without copying the column.

    Args:
        column: a chunked array of lists of int32, without nulls.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)]).tolist()

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        chunk = bisect_right(self._starts, row) - 1
        offsets, values = self._chunks[chunk]
        place = row - self._starts[chunk]
        found: NDArray[np.int32] = values[offsets[place] : offsets[place + 1]]
        return found


def _texts(examples: Iterable[Example], documents: int) -> dict[str, bool]:
    """Every text once, and whether somebody will ask which characters its tokens stand for."""
    found: dict[str, bool] = {}
    for example in examples:
        for text in (*example.context, *example.documents[:documents]):
            found.setdefault(text, False)
        found[example.response] = found.get(example.response, False) or bool(example.negative_spans)
    return found


def _intact(path: Path) -> bool:
    """Is the file what was written, by the digest that was written after it?"""
    try:
        return _digest_path(path).read_text(encoding="ascii") == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".blake2b")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _write(path: Path, rows: Iterator[tuple[int, str, bool]], backbone: Backbone) -> None:
    """Encode texts and write them, some at a time; rows are a hash, a text, and whether its offsets are kept."""
    import pyarrow as pa
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    features = Features({"text": Value("uint64"), "ids": List(Value("int32")), "offsets": List(Value("int32"))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".building-{mark()}-") as building:
        made = Path(building) / path.name
        with ArrowWriter(path=str(made), features=features, writer_batch_size=_ROWS) as writer:
            for batch in _batches(rows):
                hashes, texts, spans = zip(*batch, strict=True)
                pairs = iter(backbone.find_offsets([text for text, kept in zip(texts, spans, strict=True) if kept]))
                offsets = [[place for pair in next(pairs) for place in pair] if kept else [] for kept in spans]
                columns = {"text": list(hashes), "ids": backbone.tokenize(texts), "offsets": offsets}
                writer.write_table(pa.table(columns, schema=features.arrow_schema))
            writer.finalize()
        digest = _digest_path(made)
        digest.write_text(_digest(made), encoding="ascii")
        made.replace(path)
        digest.replace(_digest_path(path))


def _batches(rows: Iterator[tuple[int, str, bool]]) -> Iterator[Sequence[tuple[int, str, bool]]]:
    while batch := list(islice(rows, _ROWS)):
        yield batch
