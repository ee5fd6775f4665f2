"""Backbones: a model, its tokenizer, and how examples become batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter
from torch import Tensor
from transformers import GenerationConfig

from cringe.batch import Batch
from cringe.data import Example, Feedback
from cringe.seeding import stable_hash, torch_seed
from cringe.specs import BackboneSpec, PretrainedBackbone, ScratchBackbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, BOS, EOS, OWN, OTHER = "<pad>", "<s>", "</s>", "<own>", "<other>"
_SPECIAL_TOKENS = (PAD, BOS, EOS, OWN, OTHER)
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


class Seq2SeqBackbone:
    """An encoder-decoder: the context is read by the encoder, the response is the decoder's target."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, spec: ScratchBackbone | PretrainedBackbone
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.spec = spec
        # What a data set says is text: "</s>" in a comment must not end it.
        self.tokenizer.split_special_tokens = True
        self._pad, self._eos = _special(tokenizer, "pad_token_id"), _special(tokenizer, "eos_token_id")
        if isinstance(spec, ScratchBackbone):
            self._marks = {own: [tokenizer.convert_tokens_to_ids(token)] for own, token in _SPEAKERS.items()}
        else:
            separator = self._encode([spec.turn_separator])[0]
            self._marks = {True: separator, False: separator}

    @classmethod
    def build(cls, spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Seq2SeqBackbone:
        """A new model with random weights that depend on ``seed`` alone."""
        from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

        pad, bos, eos = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS])
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
            pad_token_id=pad,
            bos_token_id=bos,
            eos_token_id=eos,
            decoder_start_token_id=bos,
            forced_eos_token_id=None,
        )
        with torch_seed(seed, "init"):
            model = BlenderbotForConditionalGeneration(config)
        return cls(model, tokenizer, spec)

    @classmethod
    def from_pretrained(cls, spec: PretrainedBackbone) -> Seq2SeqBackbone:
        """An encoder-decoder from a folder or the hub; safetensors only, no code from there is run.

        Raises:
            ValueError: its tokenizer has no end or no padding token.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        dropout = {} if spec.dropout is None else {"dropout": spec.dropout}
        model = AutoModelForSeq2SeqLM.from_pretrained(
            spec.name, revision=spec.revision or "main", use_safetensors=True, trust_remote_code=False, **dropout
        )
        tokenizer = AutoTokenizer.from_pretrained(spec.name, revision=spec.revision or "main", trust_remote_code=False)
        # The data's decoding is the table's to say: nothing of what a checkpoint brings may add to it.
        model.generation_config = GenerationConfig.from_model_config(model.config)
        return cls(model, tokenizer, spec)

    @classmethod
    def load(cls, folder: Path) -> Seq2SeqBackbone:
        """Read what `save` wrote."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        spec = TypeAdapter(BackboneSpec).validate_json((folder / "backbone.json").read_text(encoding="utf-8"))
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), spec)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), configuration and tokenizer; transformers loads the folder without us."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "backbone.json").write_text(json.dumps(self.spec.model_dump(), indent=2) + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def to(self, device: str) -> Seq2SeqBackbone:
        """Move the model to a device and set it to evaluation; returns itself."""
        self.model.to(device).eval()
        return self

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def dropout(self) -> float:
        """Probability of dropout in training."""
        return float(self.model.config.dropout)

    def collate(self, examples: Sequence[Example], *, seed: int, step: int) -> Batch:
        """Examples as a batch, padded to its longest context and its longest response."""
        sources = self._encode_contexts(examples)
        encoded = self._encode([example.response for example in examples])
        targets = [(*ids, self._eos)[: self.spec.max_target] for ids in encoded]
        source, source_mask = _pad(sources, self._pad)
        responses, mask = _pad(targets, self._pad)
        negative = torch.tensor([example.feedback == Feedback.NEGATIVE for example in examples])
        liked = (mask & ~negative[:, None]).reshape(-1).nonzero().squeeze(-1)
        return Batch(
            source=source,
            source_mask=source_mask,
            responses=responses,
            tokens=torch.cat([liked, (mask & negative[:, None]).reshape(-1).nonzero().squeeze(-1)]),
            liked=liked.numel(),
            examples=tuple(stable_hash(example.uid) for example in examples),
            lengths=tuple(len(ids) for ids in targets),
            seed=seed,
            step=step,
        )

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

    def prompts(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The contexts as `generate` takes them, on the model's device."""
        ids, mask = _pad(self._encode_contexts(examples), self._pad)
        return {"input_ids": ids.to(self.device), "attention_mask": mask.long().to(self.device)}

    def context_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens of each example's context, after truncation."""
        return [len(ids) for ids in self._encode_contexts(examples)]

    def decode(self, sequences: Tensor) -> list[tuple[str, int]]:
        """The text of each generated sequence (B, L), and its number of tokens, the end token counted, padding not."""
        replies = []
        for ids in sequences[:, 1:].tolist():
            length = ids.index(self._eos) + 1 if self._eos in ids else sum(token != self._pad for token in ids)
            text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
            replies.append((" ".join(text.split()), length))
        return replies

    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """Estimated floating-point operations of one forward pass: 2 per weight and token (Kaplan et al. 2020, §2.1).

        Embedding look-ups cost nothing, the output projection does.
        """
        encoder = sum(weight.numel() for weight in self.model.model.encoder.layers.parameters())
        decoder = sum(weight.numel() for weight in self.model.model.decoder.layers.parameters())
        output = self.model.config.vocab_size * self.model.config.d_model
        return 2.0 * (encoder * source_tokens + (decoder + output) * target_tokens)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def _encode_contexts(self, examples: Sequence[Example]) -> list[list[int]]:
        """Each turn after its mark, the newest tokens last; an empty context is one ``</s>``.

        The mark says whose turn it is; a pretrained model, which knows no such token, has its separator instead.
        """
        turns: Iterator[list[int]] = iter(self._encode([turn for example in examples for turn in example.context]))
        contexts = []
        for example in examples:
            ids: list[int] = []
            for own in example.own:
                ids += [*self._marks[own], *next(turns)]
            contexts.append(ids[-self.spec.max_source :] or [self._eos])
        return contexts


def _special(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """The id of a special token that we cannot do without."""
    token = getattr(tokenizer, name)
    if token is None:
        raise ValueError(f"the tokenizer has no {name}")
    return int(token)


def _pad(sequences: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(B, L) ids padded on the right, and their (B, L) mask."""
    length = max(len(ids) for ids in sequences)
    rows = torch.tensor([[*ids, *[pad] * (length - len(ids))] for ids in sequences])
    mask = torch.tensor([[True] * len(ids) + [False] * (length - len(ids)) for ids in sequences])
    return rows, mask
