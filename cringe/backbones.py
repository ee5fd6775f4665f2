"""Backbones: a model, its tokenizer, and how examples become batches."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from cringe.batch import Batch
from cringe.data import Example, Feedback
from cringe.heads import OutputHead
from cringe.seeding import stable_hash, torch_seed
from cringe.specs import BackboneSpec, PretrainedBackbone, ScratchBackbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, BOS, EOS, OWN, OTHER = "<pad>", "<s>", "</s>", "<own>", "<other>"
_SPECIAL_TOKENS = (PAD, BOS, EOS, OWN, OTHER)
HEAD = "head.safetensors"
"""File of a head's own weights, beside the model's."""
_SPEAKERS = {True: OWN, False: OTHER}


def train_tokenizer(texts: Iterable[str], spec: ScratchBackbone) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``; every string can be encoded, and each encoding ends in ``</s>``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Typographic quotes are what people type as ' and "; a small vocabulary should not learn both.
    plain = [normalizers.Replace(curly, quote) for curly, quote in zip("‘’“”", "''\"\"", strict=True)]
    tokenizer.normalizer = normalizers.Sequence([*plain, *([normalizers.Lowercase()] if spec.lowercase else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[OWN, OTHER],
        clean_up_tokenization_spaces=False,
    )


_CODES = {Feedback.UNLABELLED: 0, Feedback.POSITIVE: 1, Feedback.NEGATIVE: 2}
"""The order in which a batch lines up its tokens."""


class _Response(NamedTuple):
    ids: list[int]
    feedback: list[int]
    """A value of `_CODES` for each token."""


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
        # What a data set says is text: "</s>" in a comment must not end it.
        self.tokenizer.split_special_tokens = True
        if tokenizer.pad_token_id is None:  # many decoder-only models have none; masks keep padding out anyway
            tokenizer.pad_token = tokenizer.eos_token
        self.pad, self.eos = _special(tokenizer, "pad_token_id"), _special(tokenizer, "eos_token_id")
        if isinstance(spec, ScratchBackbone):
            self._marks = {own: [tokenizer.convert_tokens_to_ids(token)] for own, token in _SPEAKERS.items()}
        else:
            separator = self._encode([spec.turn_separator])[0]
            self._marks = {True: separator, False: separator}

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
    def generation_inputs(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The contexts as transformers' ``generate`` takes them, on the model's device."""

    @abstractmethod
    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """Estimated floating-point operations of one forward pass: 2 per weight and token (Kaplan et al. 2020, §2.1).

        Embedding look-ups cost nothing, the output projection does.
        """

    def collate(self, examples: Sequence[Example], *, seed: int, step: int) -> Batch:
        """Examples as a batch, padded to its longest context and its longest response."""
        responses = self._encode_responses(examples)
        source, source_mask = pad(self.encode_contexts(examples), self.pad, left=self.left_pads_source)
        ids, mask = pad([response.ids for response in responses], self.pad)
        feedback, _ = pad([response.feedback for response in responses], 0)
        parts = [(mask & (feedback == code)).reshape(-1).nonzero().squeeze(-1) for code in _CODES.values()]
        return Batch(
            source=source,
            source_mask=source_mask,
            responses=ids,
            tokens=torch.cat(parts),
            unlabelled=parts[0].numel(),
            liked=parts[0].numel() + parts[1].numel(),
            examples=tuple(stable_hash(example.uid) for example in examples),
            lengths=tuple(len(response.ids) for response in responses),
            seed=seed,
            step=step,
        )

    def _encode_responses(self, examples: Sequence[Example]) -> list[_Response]:
        """Ids of each response with its end, and the feedback of each token.

        A token of which any character lies in a negative span is negative; the end token has the response's feedback.
        """
        encoded = self.tokenizer(
            [example.response for example in examples], add_special_tokens=False, return_offsets_mapping=True
        )
        found = []
        for example, ids, offsets in zip(examples, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            own = _CODES[example.feedback]
            codes = [own] * (len(ids) + 1)
            for start, stop in example.negative_spans:
                for index, (first, last) in enumerate(offsets):
                    if first < stop and start < last:
                        codes[index] = _CODES[Feedback.NEGATIVE]
            cut = self.spec.max_target
            found.append(_Response([*ids, self.eos][:cut], codes[:cut]))
        return found

    def context_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens of each example's context, after truncation."""
        return [len(ids) for ids in self.encode_contexts(examples)]

    def encode_contexts(self, examples: Sequence[Example]) -> list[list[int]]:
        """Each turn after its mark, the newest tokens last.

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

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids


class Seq2SeqBackbone(Backbone):
    """An encoder-decoder: the context is read by the encoder, the response is the decoder's target."""

    left_pads_source = False

    @classmethod
    def build(cls, spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Seq2SeqBackbone:
        """A new model with random weights that depend on ``seed`` alone."""
        from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

        pad_id, bos, eos = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS])
        config = BlenderbotConfig(
            vocab_size=len(tokenizer),
            d_model=spec.width,
            encoder_layers=spec.encoder_layers,
            decoder_layers=spec.decoder_layers,
            encoder_attention_heads=spec.heads,
            decoder_attention_heads=spec.heads,
            encoder_ffn_dim=spec.feedforward,
            decoder_ffn_dim=spec.feedforward,
            dropout=spec.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            max_position_embeddings=max(spec.max_source, spec.max_target),
            pad_token_id=pad_id,
            bos_token_id=bos,
            eos_token_id=eos,
            decoder_start_token_id=bos,
            forced_eos_token_id=None,
        )
        with torch_seed(seed, "init"):
            model = BlenderbotForConditionalGeneration(config)
        return cls(model, tokenizer, spec)

    @property
    def dropout(self) -> float:
        """Probability of dropout in training."""
        return float(getattr(self.model.config, "dropout", getattr(self.model.config, "dropout_rate", 0.0)))

    def logits(self, batch: Batch) -> Tensor:
        """(N, V) logits of the batch's target tokens under teacher forcing."""
        start = torch.full_like(batch.responses[:, :1], self.model.config.decoder_start_token_id)
        inputs = {
            "input_ids": batch.source,
            "attention_mask": batch.source_mask.long(),
            "decoder_input_ids": torch.cat([start, batch.responses[:, :-1]], dim=1),
            "use_cache": False,
        }
        if not hasattr(self.model, "final_logits_bias"):  # not of BART's family, and so with an output of its own kind
            output: Tensor = self.model(**inputs).logits
            return output.flatten(0, 1).index_select(0, batch.tokens)
        # Padding is half of a batch, and the vocabulary most of a small model: project what is needed only.
        hidden = self.model.model(**inputs).last_hidden_state.flatten(0, 1).index_select(0, batch.tokens)
        logits: Tensor = self.model.lm_head(hidden) + self.model.final_logits_bias
        return logits

    def generation_inputs(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The contexts for the encoder, and a cache that beams can share."""
        ids, mask = pad(self.encode_contexts(examples), self.pad)
        return {
            "input_ids": ids.to(self.device),
            "attention_mask": mask.long().to(self.device),
            "past_key_values": BeamCache(),
        }

    def prompt_length(self, source: Tensor) -> int:
        """The decoder's start token."""
        return 1

    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """See `Backbone.forward_flops`; encoder and decoder see tokens of their own."""
        encoder, decoder = _computing(self.model.get_encoder()), _computing(self.model.get_decoder())
        output = self.model.get_input_embeddings().weight.numel()  # one projection onto the vocabulary
        return 2.0 * (encoder * source_tokens + (decoder + output) * target_tokens)

    def _finish_context(self, ids: list[int]) -> list[int]:
        return ids[-self.spec.max_source :] or [self.eos]


class BeamCache(EncoderDecoderCache):
    """A cache that re-orders the decoder's own states alone when beams change places.

    All beams of a prompt have the same cross-attention states, and beams never leave their prompt: moving those states
    about copies the larger part of the cache at every step and changes nothing.
    """

    def __init__(self) -> None:
        super().__init__(DynamicCache(), DynamicCache())

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put the self-attention states of beam ``beam_idx[i]`` at i."""
        self.self_attention_cache.reorder_cache(beam_idx)


class CausalBackbone(Backbone):
    """A decoder-only model: the context and the response are one sequence, the loss is on the response alone."""

    left_pads_source = True

    @classmethod
    def build(cls, spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> CausalBackbone:
        """A new model with random weights that depend on ``seed`` alone."""
        from transformers import LlamaConfig, LlamaForCausalLM

        pad_id, bos, eos = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS])
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=spec.width,
            num_hidden_layers=spec.decoder_layers,
            num_attention_heads=spec.heads,
            num_key_value_heads=spec.heads,
            intermediate_size=spec.feedforward,
            attention_dropout=spec.dropout,
            max_position_embeddings=2 * (spec.max_source + spec.max_target),
            tie_word_embeddings=True,
            pad_token_id=pad_id,
            bos_token_id=bos,
            eos_token_id=eos,
        )
        with torch_seed(seed, "init"):
            model = LlamaForCausalLM(config)
        return cls(model, tokenizer, spec)

    @property
    def dropout(self) -> float:
        """Probability of dropout in training."""
        names = ("attention_dropout", "resid_pdrop", "hidden_dropout")
        return max(float(getattr(self.model.config, name, 0.0) or 0.0) for name in names)

    def logits(self, batch: Batch) -> Tensor:
        """(N, V) logits of the batch's target tokens under teacher forcing."""
        length = batch.source.shape[1]
        # Contexts are padded on the left, so token j of a response stands at S + j and is predicted at S + j - 1.
        ids = torch.cat([batch.source, batch.responses[:, :-1]], dim=1)
        mask = torch.cat([batch.source_mask, torch.ones_like(batch.responses[:, :-1], dtype=torch.bool)], dim=1)
        hidden = self.model.base_model(
            input_ids=ids, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
        ).last_hidden_state[:, length - 1 :]
        # Padding is half of a batch, and the vocabulary most of a small model: project what is needed only.
        logits: Tensor = self.model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, batch.tokens))
        return logits

    def generation_inputs(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The contexts as prompts, padded on the left."""
        ids, mask = pad(self.encode_contexts(examples), self.pad, left=True)
        return {"input_ids": ids.to(self.device), "attention_mask": mask.long().to(self.device)}

    def prompt_length(self, source: Tensor) -> int:
        """The whole context, its padding too."""
        return source.shape[1]

    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """See `Backbone.forward_flops`; the vocabulary is projected onto for target tokens only."""
        embeddings = self.model.get_input_embeddings().weight.numel()
        layers = sum(weight.numel() for weight in self.model.base_model.parameters()) - embeddings
        return 2.0 * (layers * (source_tokens + target_tokens) + embeddings * target_tokens)

    def _finish_context(self, ids: list[int]) -> list[int]:
        """The mark of the one who speaks next ends the context; one that is empty begins with BOS, or else EOS."""
        start = self._marks[True]
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.eos
        return [*(ids[-(self.spec.max_source - len(start)) :] or [first]), *start]


_FAMILIES: dict[str, type[Seq2SeqBackbone] | type[CausalBackbone]] = {
    "seq2seq": Seq2SeqBackbone,
    "causal": CausalBackbone,
}


def build_backbone(spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Backbone:
    """A new model with random weights that depend on ``seed`` alone."""
    return _FAMILIES[spec.family].build(spec, tokenizer, seed=seed)


def pretrained_backbone(spec: PretrainedBackbone) -> Backbone:
    """A model from a folder or the hub; safetensors or GGUF only, no code from there is run.

    Raises:
        ValueError: its tokenizer has no end token.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

    auto = AutoModelForSeq2SeqLM if spec.family == "seq2seq" else AutoModelForCausalLM
    dropout = {} if spec.dropout is None else {"dropout": spec.dropout}
    source = {"revision": spec.revision or "main", "trust_remote_code": False}
    if spec.gguf_file is not None:
        source["gguf_file"] = spec.gguf_file
        weights: dict[str, Any] = {"dtype": torch.float32}
    else:
        weights = {"use_safetensors": True}
    model = auto.from_pretrained(spec.name, **source, **weights, **dropout)
    # The decoding is the table's to say: nothing of what a checkpoint brings may add to it.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    return _FAMILIES[spec.family](model, AutoTokenizer.from_pretrained(spec.name, **source), spec)


def load_backbone(folder: Path) -> Backbone:
    """Read what `Backbone.save` wrote."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    spec = TypeAdapter(BackboneSpec).validate_json((folder / "backbone.json").read_text(encoding="utf-8"))
    auto = AutoModelForSeq2SeqLM if spec.family == "seq2seq" else AutoModelForCausalLM
    model = auto.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return _FAMILIES[spec.family](model, AutoTokenizer.from_pretrained(folder, local_files_only=True), spec)


def _computing(model: nn.Module) -> int:
    """Number of weights but for those that are looked up: of tokens and of positions."""
    parts = (part for part in model.modules() if not isinstance(part, nn.Embedding))
    return sum(weight.numel() for part in parts for weight in part.parameters(recurse=False))


def positions(mask: Tensor) -> Tensor:
    """(B, L) positions of tokens in sequences that are padded on the left, from their mask (B, L)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def pad(sequences: Sequence[Sequence[int]], padding: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """(B, L) ids padded on one side, and their (B, L) mask."""
    length = max(len(ids) for ids in sequences)
    gaps = [[padding] * (length - len(ids)) for ids in sequences]
    rows = [[*gap, *ids] if left else [*ids, *gap] for ids, gap in zip(sequences, gaps, strict=True)]
    holes = [[False] * len(gap) for gap in gaps]
    words = [[True] * len(ids) for ids in sequences]
    marks = [[*hole, *word] if left else [*word, *hole] for word, hole in zip(words, holes, strict=True)]
    return torch.tensor(rows), torch.tensor(marks)


def _special(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """The id of a special token that we cannot do without."""
    token = getattr(tokenizer, name)
    if token is None:
        raise ValueError(f"the tokenizer has no {name}")
    return int(token)
