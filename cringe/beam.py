"""Beam search: what transformers' ``generate`` finds with the same settings, in less time.

The rules are those of ``GenerationMixin._beam_search`` with ``early_stopping=False`` and ``renormalize_logits=True``:
of each prompt 2 K candidates are kept (more with several end tokens); the best K of them may end, K others go on; a
prompt is done when it has K replies and its best beam, divided by its length to the power of the penalty, is no better
than the worst of them. What is different is how it is computed. Scores differ by rounding, a few units in the last
place: where two candidates are that close, or exactly equal, another may come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitNormalization,
    LogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from transformers.generation.utils import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

from cringe.beam_state import BeamState
from cringe.beam_tree import BeamTree, attending
from cringe.blocks import EndBlock, RowProcessor
from cringe.heads import unnormalized

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

_MODELS = frozenset({"bart", "blenderbot", "blenderbot-small", "mbart", "pegasus", "llama", "gpt2", "qwen2"})
"""Architectures that take a mask and a cache as `BeamTree` makes them; a test holds each to ``generate``."""
_ROWWISE = (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    RowProcessor,
)
"""Processors of each row by itself, which give the same probabilities from logits as from log-probabilities."""


def supports(model: PreTrainedModel) -> bool:
    """Will `BeamSearch` do for this model and its generation configuration? Otherwise ask ``generate``."""
    settings = model.generation_config
    return (
        model.config.model_type in _MODELS
        and model.config._attn_implementation == "sdpa"
        and "sliding_attention" not in (getattr(model.config, "layer_types", None) or ())
        and not settings.early_stopping
        and settings.max_time is settings.stop_strings is settings.prefill_chunk_size is None
    )


class BeamSearch:
    """A search, for ``custom_generate`` of transformers' ``generate``, which prepares inputs and processors for it.

    Ask for one beam and one sequence there: the beams are made here.

    Args:
        beams: K.
        length_penalty: α in the score of a reply, Σ log p / length^α.
        returned: how many replies to a prompt to return, best first.
    """

    def __init__(self, *, beams: int, length_penalty: float, returned: int = 1) -> None:
        self._beams = beams
        self._penalty = length_penalty
        self._returned = returned
        self.fed = 0
        """Tokens that went through the decoder: the last of each prompt, and from then on one of each beam a step."""

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        *,
        logits_processor: Sequence[LogitsProcessor],
        generation_config: GenerationConfig,
        stopping_criteria: object = None,
        **inputs: Any,
    ) -> Tensor | GenerateBeamDecoderOnlyOutput | GenerateBeamEncoderDecoderOutput:
        """Reply to prompts (B, P).

        Returns:
            (B · returned, P + L) ids, the prompts with the replies; with ``return_dict_in_generate`` what transformers
            returns then, scores of steps and sequences among it.
        """
        processors = [_fast(each) for each in logits_processor if not isinstance(each, LogitNormalization)]
        rowwise = all(isinstance(each, _ROWWISE) for each in processors)
        leaving = rowwise and not generation_config.output_scores  # which are of all rows
        beams = BeamState(input_ids, generation_config, beams=self._beams, penalty=self._penalty)
        decoder = _Decoder(model, input_ids, inputs, beams=self._beams, steps=beams.steps)
        logits = decoder.first.repeat_interleave(self._beams, dim=0)
        self.fed, steps = len(input_ids), []
        with attending(model), unnormalized(model.get_output_embeddings()):
            while True:
                # A processor that is none of ours may tell log p from logits.
                scores = logits.float() if rowwise else logits.float().log_softmax(dim=-1)
                tokens, log_p = _process(processors, beams.rows, scores, short=not generation_config.output_scores)
                if generation_config.output_scores:
                    steps.append(log_p)
                going = beams.extend(log_p, tokens)
                if not len(going):
                    break
                if leaving and 8 * len(going) <= 7 * len(beams.scores):
                    for part in (beams, decoder, *processors):
                        if isinstance(part, BeamState | _Decoder | RowProcessor):
                            part.keep(going)
                self.fed += beams.tokens.numel()
                logits = decoder(beams.tokens, beams.parents)
        sequences, finals = beams.replies(self._returned)
        if not generation_config.return_dict_in_generate:
            return sequences
        kind = GenerateBeamEncoderDecoderOutput if model.config.is_encoder_decoder else GenerateBeamDecoderOnlyOutput
        return kind(sequences=sequences, sequences_scores=finals, scores=tuple(steps) or None)


def _process(
    processors: Sequence[LogitsProcessor], ids: Tensor, scores: Tensor, *, short: bool
) -> tuple[Tensor | None, Tensor]:
    """Tokens (R, n), or None for the whole vocabulary, and their log-probabilities.

    Args:
        processors: in their order.
        ids: (R, L) of the rows.
        scores: (R, V) of what comes after them.
        short: may it be few tokens?
    """
    for index, processor in enumerate(processors):
        if short and index == len(processors) - 1 and isinstance(processor, RowProcessor):
            found = processor.shortlist(ids, scores)
            if found is not None:
                return found
        scores = processor(ids, scores)
    return None, scores.log_softmax(dim=-1)


def _fast(processor: LogitsProcessor) -> LogitsProcessor:
    """The same rule at less cost, where there is one."""
    if type(processor) is MinNewTokensLengthLogitsProcessor:
        return EndBlock(processor.prompt_length_to_skip + processor.min_new_tokens, processor.eos_token_id)
    if type(processor) is MinLengthLogitsProcessor:
        return EndBlock(processor.min_length, processor.eos_token_id)
    return processor


class _Decoder:
    """A model that has read the prompts (B, P), and reads the beams' tokens."""

    def __init__(
        self, model: PreTrainedModel, prompts: Tensor, inputs: dict[str, Any], *, beams: int, steps: int
    ) -> None:
        self._model = model
        self._crossed: bool = model.config.is_encoder_decoder
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if self._crossed else DynamicCache()
        inputs |= {"past_key_values": cache, "use_cache": True}
        prepared = model.prepare_inputs_for_generation(prompts, is_first_iteration=True, **inputs)
        self.first: Tensor = model(**prepared, return_dict=True).logits[:, -1]
        """(B, V) logits of the first tokens."""
        mask = inputs.get("attention_mask")
        seen = torch.ones_like(prompts) if self._crossed or mask is None else mask
        self._tree = BeamTree(cache, seen.bool(), beams=beams, steps=steps, dtype=model.dtype)
        self._places = seen.sum(dim=1)
        if self._crossed:
            self._states: Tensor = inputs["encoder_outputs"][0]
            read = torch.ones(self._states.shape[:2], device=prompts.device) if mask is None else mask
            bias = torch.zeros(read.shape, dtype=model.dtype, device=read.device)
            self._bias = bias.masked_fill_(read == 0, -torch.inf)[:, None, None]

    def __call__(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B·K, V) logits after tokens (B, K) that follow those of the beams ``parents`` (B, K)."""
        self._tree.advance(parents)
        ids = tokens.reshape(-1, 1)
        shared = {"past_key_values": self._tree.cache, "use_cache": True, "return_dict": True}
        if self._crossed:
            output = self._model(
                decoder_input_ids=ids,
                decoder_attention_mask=self._tree.mask,
                encoder_outputs=(self._states,),
                attention_mask=self._bias,
                **shared,
            )
        else:
            places = self._places.repeat_interleave(tokens.shape[1])[:, None]
            output = self._model(input_ids=ids, attention_mask=self._tree.mask, position_ids=places, **shared)
            self._places = self._places + 1
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone."""
        self._tree.keep(prompts)
        self._places = self._places[prompts]
        if self._crossed:
            self._states, self._bias = self._states[prompts], self._bias[prompts]
