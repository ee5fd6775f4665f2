"""ParlAI's `TransformerGeneratorAgent`, of the shape of one of our models and fed the same token ids.

It gets its texts encoded, so its tokenizer, the slower one, takes no part. ParlAI is installed in an environment of its
own (`tox -e oracle`) and imported when an agent is built.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UsageError
from benchmarks.speed.rows import Side
from benchmarks.speed.setting import BATCH, Setting, Shape, training_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cringe.backbones import Backbone
    from cringe.data import Example
    from cringe.specs import DecodingSpec

SPECIAL_TOKENS = ["__null__", "__start__", "__end__", "__unk__"]
"""ParlAI's padding, start and end have the ids that ours have."""


def require_parlai() -> None:
    """Say how to get ParlAI where it is not installed.

    Raises:
        UsageError: it is not.
    """
    if find_spec("parlai") is None:
        raise UsageError(
            "--against parlai: ParlAI is not installed here, and cannot be installed beside our dependencies\n"
            "  next step: run `tox -e oracle --notest` once, then "
            "`.tox/oracle/bin/python -m benchmarks.speed --against parlai`"
        )


class Peer:
    """The agent, and batches of the same examples for it.

    Args:
        setting: device and threads.
        shape: of the model.
        backbone: encodes the examples.
        examples: what to train on or reply to.
        decoding: how to reply; None for training.
    """

    def __init__(
        self,
        setting: Setting,
        shape: Shape,
        backbone: Backbone,
        examples: Sequence[Example],
        decoding: DecodingSpec | None = None,
    ) -> None:
        self._folder = TemporaryDirectory(prefix="parlai-")
        self._agent = _agent(_options(setting, shape, backbone, decoding) | {"datapath": self._folder.name}, shape)
        self._examples = examples
        self._backbone = backbone
        self._batches = self._shuffled()

    def training(self, steps: int) -> Side:
        """Some steps at a time, in units of target tokens; batches are collated inside, as ours are."""
        return Side(lambda: float(sum(self._step() for _ in range(steps))))

    def decoding(self, batch_size: int) -> Side:
        """All examples, in batches of like length as ours are, in units of examples."""
        lengths = self._backbone.context_lengths(self._examples)
        order = sorted(range(len(self._examples)), key=lengths.__getitem__)
        chosen = [
            [self._examples[index] for index in order[start : start + batch_size]]
            for start in range(0, len(order), batch_size)
        ]

        def run() -> float:
            replies = [reply for batch in chosen for reply in self._agent.batch_act(self._observations(batch, "eval_"))]
            return float(sum("text" in reply for reply in replies))

        return Side(run)

    def reply_lengths(self) -> set[int]:
        """Tokens of the best reply to each of some examples, its start token not counted."""
        batch = self._agent.batchify(self._observations(self._examples[:4], "eval_"))
        if self._agent.use_cuda:
            batch = batch.to(0)
        with torch.no_grad():
            best, _ = self._agent._generate(batch, self._agent.beam_size, self._agent.label_truncate)
        return {len(found[0]) - 1 for found in best}

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones counted once; sinusoidal positions are none."""
        return sum(weight.numel() for weight in self._agent.model.parameters())

    def _step(self) -> int:
        batch = next(self._batches)
        self._agent.batch_act(batch)
        return sum(len(message["labels_vec"]) for message in batch)

    def _shuffled(self) -> Iterator[list[Any]]:
        """Batches in random order, as ParlAI's teachers give them, encoded before: only collating is left to do."""
        known = self._observations(self._examples, "")
        draws = random.Random(0)
        while True:
            order = draws.sample(range(len(known)), len(known))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                yield [known[index] for index in order[start : start + BATCH]]

    def _observations(self, examples: Sequence[Example], prefix: str) -> list[Any]:
        """Messages as an agent's ``observe`` leaves them; in evaluation without labels, whose loss nobody asks for."""
        from parlai.core.message import Message

        contexts = self._backbone.encode_contexts(examples)
        responses = self._backbone.tokenize([example.response for example in examples])
        messages = []
        for context, response in zip(contexts, responses, strict=True):
            words: dict[str, Any] = {"text": "", "episode_done": True, "text_vec": torch.tensor(context)}
            words["full_text_vec"] = context
            if not prefix:
                target = [*response, self._backbone.eos][: self._backbone.spec.max_target]
                words |= {"labels": ("",), "labels_vec": torch.tensor(target), "labels_choice": ""}
            messages.append(Message(words))
        return messages


def _agent(options: Mapping[str, object], shape: Shape) -> Any:  # noqa: ANN401 - a class made here
    """An agent with a dictionary of the right size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is of 2023
        from parlai.agents.transformer.transformer import TransformerGeneratorAgent
        from parlai.core.params import ParlaiParser
        from parlai.utils import logging

    class Agent(TransformerGeneratorAgent):
        """The agent as it is, but for where its words come from."""

        def build_dictionary(self) -> Any:  # noqa: ANN401
            found = self.dictionary_class()(self.opt)
            for index in range(len(found), shape.vocabulary):
                found.add_token(f"w{index}")
            return found

    logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent = Agent(ParlaiParser(True, True).parse_kwargs(**options))
    if len(agent.dict) != shape.vocabulary or [agent.dict[word] for word in SPECIAL_TOKENS[:3]] != [0, 1, 2]:
        raise RuntimeError("ParlAI's dictionary is not of the size and order that this comparison needs")
    return agent


def _options(setting: Setting, shape: Shape, backbone: Backbone, decoding: DecodingSpec | None) -> dict[str, object]:
    """The shape and our defaults in ParlAI's words."""
    ours = training_settings()
    options: dict[str, object] = {
        "model": "transformer/generator",
        "embedding_size": shape.width,
        "n_encoder_layers": shape.encoder_layers,
        "n_decoder_layers": shape.decoder_layers,
        "n_heads": shape.heads,
        "ffn_size": shape.feedforward,
        "variant": "prelayernorm",
        "activation": "gelu",
        "learn_positional_embeddings": True,
        "n_positions": max(backbone.spec.max_source, backbone.spec.max_target),
        "text_truncate": backbone.spec.max_source,
        "label_truncate": backbone.spec.max_target if decoding is None else decoding.max_new_tokens,
        "batchsize": BATCH,
        "optimizer": "adamw",
        "learningrate": ours.learning_rate,
        "weight_decay": ours.weight_decay,
        "lr_scheduler": "fixed",
        "gradient_clip": ours.clip_norm,
        "no_cuda": setting.device == "cpu",
    }
    if decoding is not None:
        options |= {
            "inference": "beam",
            "beam_size": decoding.beams,
            "beam_min_length": decoding.min_new_tokens,
            "beam_block_ngram": decoding.no_repeat_ngram,
            "beam_context_block_ngram": decoding.no_context_ngram,
            "beam_length_penalty": decoding.length_penalty,
        }
    return options
