"""What backbones of all families have in common: a model, its tokenizer, and how examples become batches."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from cringe.batch import Batch, Rows, Sources, group_by_length, pad
from cringe.data import Example, Feedback
from cringe.heads import OutputHead
from cringe.seeding import stable_hash
from cringe.specs import PretrainedBackbone, ScratchBackbone
from cringe.token_cache import TokenCache, tokenizer_digest
from cringe.tokenizer import BOS, OTHER, OWN

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

HEAD = "head.safetensors"
"""File of a head's own weights, beside the model's."""
_SPEAKERS = {True: OWN, False: OTHER}
_T = TypeVar("_T")
_CODES = {Feedback.UNLABELLED: 0, Feedback.POSITIVE: 1, Feedback.NEGATIVE: 2}
"""The order in which a batch lines up its tokens."""
_UNKNOWN = 3
"""The code of a token that nothing is known of, which a batch does not score."""


class _Response(NamedTuple):
    ids: list[int]
    feedback: list[int]
    """A value of `_CODES`, or `_UNKNOWN`, for each token."""


class Backbone(ABC):
    """A language model that replies to a context; what encoder-decoders and decoder-only models have in common."""

    left_pads_source: ClassVar[bool]
    """Does padding of contexts go to the left, so that responses follow them without a gap?"""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, spec: ScratchBackbone | PretrainedBackbone
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.spec = spec
        self.head: OutputHead | None = None
        self._tokens: TokenCache | None = None
        # What a data set says is text: "</s>" in a comment must not end it.
        self.tokenizer.split_special_tokens = True
        if tokenizer.pad_token_id is None:  # many decoder-only models have none; masks keep padding out anyway
            tokenizer.pad_token = tokenizer.eos_token
        self.pad, self.eos = _special(tokenizer, "pad_token_id"), _special(tokenizer, "eos_token_id")
        # BlenderBot's configuration brings a block of its own; whoever generates says what is blocked.
        model.generation_config.encoder_no_repeat_ngram_size = 0
        if isinstance(spec, ScratchBackbone):
            self._marks = {own: [tokenizer.convert_tokens_to_ids(token)] for own, token in _SPEAKERS.items()}
            self._document_mark = [tokenizer.convert_tokens_to_ids(BOS)]  # which stands in no context
        else:
            self._document_mark = separator = self._encode([spec.turn_separator])[0]
            self._marks = {True: separator, False: separator}
        places = getattr(model.config, "max_position_embeddings", None)
        if spec.documents and places is not None and self.longest_sequence > places:
            raise ValueError(
                f"documents of {spec.max_document} tokens (max_document) and contexts of {spec.max_source} "
                f"(max_source) need {self.longest_sequence} places, the model has {places}"
            )

    @property
    def tokens(self) -> TokenCache | None:
        """Texts that are encoded already; without it, or for other texts, the tokenizer is asked.

        Raises:
            ValueError: what is set was encoded by another tokenizer.
        """
        return self._tokens

    @tokens.setter
    def tokens(self, cache: TokenCache | None) -> None:
        if cache is not None and cache.tokenizer != tokenizer_digest(self.tokenizer):
            raise ValueError("these are tokens of another tokenizer")
        self._tokens = cache

    def attach(self, head: OutputHead) -> None:
        """Put a head in the place of the output projection; it holds that projection and goes where the model goes."""
        if hasattr(self.model, "final_logits_bias"):  # BART's family adds it behind the head, which adds it itself
            head.take_constant(self.model.final_logits_bias)
            self.model.final_logits_bias = torch.zeros_like(self.model.final_logits_bias[:, :1])
        head.to(self.device)
        self.model.set_output_embeddings(head)
        self.head = head

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), configuration and tokenizer; transformers loads the folder without us.

        A head is written beside them; what transformers loads is the model without it.
        """
        if self.head is not None:
            self.head.save(folder / HEAD)
            self.model.set_output_embeddings(self.head.projection)
            if self.head.constant is not None:
                self.model.final_logits_bias = self.head.constant
        self.model.save_pretrained(folder)
        if self.head is not None:
            self.attach(self.head)
        self.tokenizer.save_pretrained(folder)
        (folder / "backbone.json").write_text(json.dumps(self.spec.model_dump(), indent=2) + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def to(self, device: str) -> Self:
        """Move the model to a device and set it to evaluation; returns itself."""
        self.model.to(device).eval()
        return self

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    @abstractmethod
    def dropout(self) -> float:
        """Probability of dropout in training."""

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """(N, V) logits of the batch's target tokens under teacher forcing."""

    @abstractmethod
    def inputs(self, sources: Sources) -> dict[str, Any]:
        """What the model reads, on its device, as transformers' ``generate`` takes it."""

    def generation_inputs(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The examples' contexts, with the documents where they are read, as transformers' ``generate`` takes them."""
        found = self.sources(examples)
        return self.inputs(Sources(*(part if part is None else part.to(self.device) for part in found)))

    @abstractmethod
    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """Estimated floating-point operations of one forward pass: 2 per weight and token (Kaplan et al. 2020, §2.1).

        Embedding look-ups cost nothing, the output projection does.
        """

    def collate(self, examples: Sequence[Example], *, seed: int, step: int, groups: int = 1) -> Batch:
        """Examples as a batch, padded to its longest context and its longest response.

        Args:
            examples: B examples.
            seed: of draws that belong to the batch.
            step: the optimiser step that it is a part of.
            groups: with more than 1 the examples are put in order of their length, so that `Batch.parts` has them in
                this many groups with as little padding as can be. Documents that are fused stay in one group.
        """
        responses, sequences = self._encode_responses(examples), self.encode_sources(examples)
        lengths = [
            (sum(map(len, rows)), len(response.ids)) for rows, response in zip(sequences, responses, strict=True)
        ]
        ends: list[int] = []
        if groups > 1:
            order, ends = group_by_length(lengths, groups)
            examples, lengths = [examples[row] for row in order], [lengths[row] for row in order]
            responses, sequences = [responses[row] for row in order], [sequences[row] for row in order]
        sources = self.join(sequences)
        ids, mask = pad([response.ids for response in responses], self.pad)
        feedback, _ = pad([response.feedback for response in responses], 0)
        parts = [(mask & (feedback == code)).reshape(-1).nonzero().squeeze(-1) for code in _CODES.values()]
        return Batch(
            source=sources.ids,
            source_mask=sources.mask,
            fused=sources.fused,
            responses=ids,
            tokens=torch.cat(parts),
            unlabelled=parts[0].numel(),
            liked=parts[0].numel() + parts[1].numel(),
            examples=tuple(stable_hash(example.uid) for example in examples),
            lengths=tuple(target for _, target in lengths),
            source_tokens=sum(source for source, _ in lengths),
            groups=self._groups([source for source, _ in lengths], ends) if sources.fused is None else (),
            seed=seed,
            step=step,
        )

    def _groups(self, lengths: Sequence[int], ends: Sequence[int]) -> tuple[Rows, ...]:
        """The groups of rows that end at ``ends``, with the columns that their contexts do not need."""
        groups = []
        for first, last in pairwise([0, *ends]):
            spare = max(lengths) - max(lengths[first:last])
            groups.append(Rows(first, last, *((spare, 0) if self.left_pads_source else (0, spare))))
        return tuple(groups)

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens that the model reads and writes of each example, after truncation."""
        written = self._encode_responses(examples)
        return [read + len(row.ids) for read, row in zip(self.context_lengths(examples), written, strict=True)]

    def _encode_responses(self, examples: Sequence[Example]) -> list[_Response]:
        """Ids of each response with its end, and the feedback of each token.

        A token of which any character lies in a negative span is negative. The others, the end token among them, have
        the response's feedback; but of the others of a negative response with spans nothing is known.
        """
        encoded = self._encode([example.response for example in examples])
        offsets = iter(self._offsets([example.response for example in examples if example.negative_spans]))
        found = []
        for example, ids in zip(examples, encoded, strict=True):
            partly = example.feedback == Feedback.NEGATIVE and example.negative_spans
            codes = [_UNKNOWN if partly else _CODES[example.feedback]] * (len(ids) + 1)
            for index, (first, last) in enumerate(next(offsets) if example.negative_spans else ()):
                if any(first < stop and start < last for start, stop in example.negative_spans):
                    codes[index] = _CODES[Feedback.NEGATIVE]
            cut = self.spec.max_target
            found.append(_Response([*ids, self.eos][:cut], codes[:cut]))
        return found

    def context_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens that the model reads before each example's response, after truncation."""
        return [sum(map(len, sequences)) for sequences in self.encode_sources(examples)]

    def sources(self, examples: Sequence[Example]) -> Sources:
        """What the model reads before the responses, padded to the longest."""
        return self.join(self.encode_sources(examples))

    def join(self, sequences: Sequence[Sequence[list[int]]]) -> Sources:
        """The sequences of each example (`encode_sources`) as tensors, padded to the longest."""
        return Sources(*pad([ids for rows in sequences for ids in rows], self.pad, left=self.left_pads_source))

    def encode_sources(self, examples: Sequence[Example]) -> list[list[list[int]]]:
        """For each example the sequences that the model reads, apart from each other; here one, the context."""
        return [[ids] for ids in self.encode_contexts(examples)]

    @property
    @abstractmethod
    def longest_sequence(self) -> int:
        """Tokens of the longest sequence that the specification allows."""

    def encode_contexts(self, examples: Sequence[Example]) -> list[list[int]]:
        """The dialogue alone, without documents: each turn after its mark, the newest tokens last.

        The mark says whose turn it is; a pretrained model, which knows no such token, has its separator instead.
        """
        turns: Iterator[list[int]] = iter(self._encode([turn for example in examples for turn in example.context]))
        contexts = []
        for example in examples:
            ids: list[int] = []
            for own in example.own:
                ids += [*self._marks[own], *next(turns)]
            contexts.append(self._finish_context(ids))
        return contexts

    def encode_documents(self, examples: Sequence[Example]) -> list[list[list[int]]]:
        """For each example the documents that are read, best first, each after its mark and cut to its length.

        The mark is one that no context holds; a pretrained model, which knows none, has its separator instead.
        """
        chosen = [example.documents[: self.spec.documents] for example in examples]
        encoded = iter(self._encode([text for documents in chosen for text in documents]))
        mark, most = self._document_mark, self.spec.max_document
        return [[[*mark, *next(encoded)][:most] for _ in documents] for documents in chosen]

    @abstractmethod
    def _finish_context(self, ids: list[int]) -> list[int]:
        """Cut a context to its length and end it; never empty."""

    def decode(self, generated: Tensor) -> list[tuple[str, int]]:
        """The text of each generated sequence (B, L), and its number of tokens, the end token counted, padding not."""
        replies = []
        for row in generated.tolist():
            ids = self.until_end(row)
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            replies.append((" ".join(text.split()), len(ids)))
        return replies

    def until_end(self, ids: list[int]) -> list[int]:
        """A generated sequence up to its end token; without the padding, where it was cut off before."""
        return ids[: ids.index(self.eos) + 1] if self.eos in ids else [token for token in ids if token != self.pad]

    @abstractmethod
    def prompt_length(self, source: Tensor) -> int:
        """How many tokens stand before the generated ones in what ``generate`` returns for contexts (B, S)."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without an end token; texts are not looked up in ``tokens``."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def find_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Of each token of each text the range of characters that it stands for."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        offsets: list[list[tuple[int, int]]] = encoded["offset_mapping"]
        return offsets

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return _look_up(texts, self.tokens.ids if self.tokens is not None else None, self.tokenize)

    def _offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return _look_up(texts, self.tokens.offsets if self.tokens is not None else None, self.find_offsets)


def _look_up(
    texts: Sequence[str],
    known: Callable[[str], list[_T] | None] | None,
    find: Callable[[Sequence[str]], list[list[_T]]],
) -> list[list[_T]]:
    """What is known of each text; what is not is found for all such texts at once."""
    if known is None:
        return find(texts)
    stored = [known(text) for text in texts]
    found = iter(find([text for text, row in zip(texts, stored, strict=True) if row is None]))
    return [next(found) if row is None else row for row in stored]


def _special(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """The id of a special token that we cannot do without."""
    token = getattr(tokenizer, name)
    if token is None:
        raise ValueError(f"the tokenizer has no {name}")
    return int(token)
