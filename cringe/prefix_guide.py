"""The prefix guide: says of every beginning of a response how likely the whole is to be a positive one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cringe.backbones import Backbone, pad, positions
from cringe.batch import send
from cringe.counts import Counts
from cringe.data import Example, Feedback
from cringe.seeding import stream, torch_seed
from cringe.specs import PrefixGuideSpec

if TYPE_CHECKING:
    from cringe.guide_cache import Slots

_WEIGHTS, _ABOUT = "prefix_guide.safetensors", "prefix_guide.json"


class _Item(NamedTuple):
    """A labelled response as token ids."""

    prompt: list[int]
    response: list[int]
    positive: bool


class PrefixGuide:
    """A causal transformer of Llama's shape with one logit on each hidden state: log-odds of P(positive | prefix).

    The prompt is the context as the backbone encodes it, and a token that says that the response begins.

    Args:
        model: ``body``, a LlamaModel, and ``head``, from its width to 1.
        spec: what the model was built from.
        pad: the padding token.
        start: the token between context and response.
    """

    def __init__(self, model: nn.ModuleDict, spec: PrefixGuideSpec, *, pad: int, start: int) -> None:
        self._model = model.eval()
        self.spec = spec
        self._pad = pad
        self._start = start

    @classmethod
    def train(
        cls,
        examples: Sequence[Example],
        backbone: Backbone,
        spec: PrefixGuideSpec,
        *,
        seed: int,
        device: str = "cpu",
        progress: Callable[[int, int, str], None] = lambda done, total, note: None,
        counts: Counts | None = None,
    ) -> PrefixGuide:
        """Train on all prefixes of the labelled responses at once; both classes weigh the same.

        Args:
            examples: to learn from; those without a label are left out.
            backbone: whose tokenizer and way of reading a context it shares; its weights play no part.
            spec: the shape of the guide and of its training.
            seed: of initial weights, order and dropout.
            device: where to train.
            progress: told how far it is.
            counts: a ledger to add the cost to, but for the seconds.

        Raises:
            ValueError: the examples do not hold both classes.
        """
        counts = counts if counts is not None else Counts()
        tokenizer = backbone.tokenizer
        bos = tokenizer.bos_token_id
        # A checkpoint may have more rows than its tokenizer has tokens, and a backbone may put weight on them.
        vocabulary = max(len(tokenizer), backbone.model.get_input_embeddings().num_embeddings)
        with torch_seed(seed, "prefix guide"):  # dropout draws from torch's own state
            model = _build(spec, vocabulary, backbone.pad)
            guide = cls(model, spec, pad=backbone.pad, start=bos if bos is not None else backbone.eos).to(device)
            guide._fit(guide._items(examples, backbone), seed, progress, counts)
        return guide

    @classmethod
    def load(cls, folder: Path) -> PrefixGuide:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        spec = PrefixGuideSpec.model_validate(about["spec"])
        model = _build(spec, about["vocabulary"], about["pad"])
        model.load_state_dict(load_file(folder / _WEIGHTS))
        return cls(model, spec, pad=about["pad"], start=about["start"])

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and what else `load` needs (JSON)."""
        from safetensors.torch import save_file

        weights = {name: weight.detach().cpu().contiguous() for name, weight in self._model.state_dict().items()}
        save_file(weights, folder / _WEIGHTS)
        vocabulary = self._model["body"].config.vocab_size
        about = {"spec": self.spec.model_dump(), "vocabulary": vocabulary, "pad": self._pad, "start": self._start}
        (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device; returns itself."""
        self._model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self._model["head"].weight.device

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self._model.parameters())

    def forward_flops(self, tokens: int) -> float:
        """Estimated operations of a forward pass: 2 per weight and token; looking embeddings up costs nothing."""
        return 2.0 * (self.parameters - self._model["body"].embed_tokens.weight.numel()) * tokens

    def prompts(self, contexts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(B, P) prompts that encoded contexts become, padded on the left, and their mask."""
        found = [[*ids[-self.spec.max_context :], self._start] for ids in contexts]
        ids, mask = pad(found, self._pad, left=True)
        return ids.to(self.device), mask.to(self.device)

    def log_odds(self, contexts: Sequence[Sequence[int]], responses: Tensor) -> Tensor:
        """Read whole responses, without a cache.

        Args:
            contexts: B encoded contexts.
            responses: (B, T) token ids.

        Returns:
            (B, T): entry t is the log-odds of a positive response after tokens 0 to t.
        """
        prompts, mask = self.prompts(contexts)
        responses = responses.to(self.device)
        mask = torch.cat([mask, torch.ones_like(responses, dtype=torch.bool)], dim=1)
        hidden = self._body(self._model["body"].embed_tokens(torch.cat([prompts, responses], dim=1)), mask)
        return self._classify(hidden[:, prompts.shape[1] :])

    def extend(self, ids: Tensor, places: Tensor, mask: Tensor, slots: Slots) -> Tensor:
        """Read tokens that follow others whose states are kept; theirs are kept too.

        Args:
            ids: (R, Q) new tokens.
            places: (R, Q) their positions.
            mask: (R, 1, Q, C) bool, the states that each sees: kept ones first, then the new ones.
            slots: the states (`cringe.guide_cache`).

        Returns:
            (R, Q) log-odds of a positive response after each.
        """
        output = self._model["body"](
            input_ids=ids, position_ids=places, attention_mask=mask, past_key_values=slots, use_cache=True
        )
        return self._classify(output.last_hidden_state)

    def room(self, rows: int, columns: int) -> Tensor:
        """(layers, 2, rows, heads, columns, d) zeros for `Slots`."""
        spec = self.spec
        shape = (spec.layers, 2, rows, spec.heads, columns, spec.width // spec.heads)
        return torch.zeros(shape, device=self.device)

    def _body(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """(B, L, width) hidden states of whole sequences, from embeddings of that shape."""
        output = self._model["body"](
            inputs_embeds=embedded, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _classify(self, hidden: Tensor) -> Tensor:
        """(..., width) to (...)."""
        logits: Tensor = self._model["head"](hidden).squeeze(-1)
        return logits

    def _items(self, examples: Sequence[Example], backbone: Backbone) -> list[_Item]:
        """The labelled examples as ids; responses end in EOS where they are not cut."""
        labelled = [example for example in examples if example.feedback != Feedback.UNLABELLED]
        good = sum(example.feedback == Feedback.POSITIVE for example in labelled)
        if not 0 < good < len(labelled):
            raise ValueError(f"a prefix guide needs both classes; of {len(labelled)} labelled, {good} are positive")
        texts = [example.response for example in labelled]
        responses: list[list[int]] = backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [
            _Item(
                prompt=[*context[-self.spec.max_context :], self._start],
                response=[*response, backbone.eos][: backbone.spec.max_target],
                positive=example.feedback == Feedback.POSITIVE,
            )
            for example, context, response in zip(labelled, backbone.encode_contexts(labelled), responses, strict=True)
        ]

    def _fit(
        self, items: Sequence[_Item], seed: int, progress: Callable[[int, int, str], None], counts: Counts
    ) -> None:
        spec, device = self.spec, self.device
        tokens = {kind: sum(len(item.response) for item in items if item.positive == kind) for kind in (True, False)}
        weights = {kind: 0.5 * sum(tokens.values()) / count for kind, count in tokens.items()}
        total = spec.epochs * math.ceil(len(items) / spec.batch_size)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=spec.learning_rate, weight_decay=0.01, fused=True)
        for step, rows in enumerate(_batches(items, spec, seed)):
            for group in optimizer.param_groups:
                rise = 0.1 * total
                group["lr"] = spec.learning_rate * min((step + 1) / rise, (total - step) / (total - rise))
            batch = [items[row] for row in rows]
            prompts, seen = (send(x, device) for x in pad([item.prompt for item in batch], self._pad, left=True))
            responses, mask = (send(x, device) for x in pad([item.response for item in batch], self._pad))
            embedded = self._model["body"].embed_tokens(torch.cat([prompts, responses], dim=1))
            hidden = self._body(F.dropout(embedded, p=spec.dropout), torch.cat([seen, mask], dim=1))
            logits = self._classify(hidden[:, prompts.shape[1] :])
            labels, weight = (
                send(torch.tensor(values, dtype=torch.float32)[:, None], device).expand_as(mask)
                for values in ([item.positive for item in batch], [weights[item.positive] for item in batch])
            )
            losses = F.binary_cross_entropy_with_logits(logits, labels, weight=weight * mask, reduction="sum")
            loss = losses / sum(len(item.response) for item in batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            self._count(batch, counts)
            if (step + 1) % 50 == 0 or step + 1 == total:
                progress(step + 1, total, f"loss {loss.item():.3f}")

    def _count(self, batch: Sequence[_Item], counts: Counts) -> None:
        source, target = sum(len(item.prompt) for item in batch), sum(len(item.response) for item in batch)
        counts.updates += 1
        counts.examples += len(batch)
        counts.source_tokens += source
        for item in batch:
            feedback = Feedback.POSITIVE if item.positive else Feedback.NEGATIVE
            counts.target_tokens[feedback.value] += len(item.response)
        counts.forward_passes += len(batch)
        counts.backward_passes += len(batch)
        counts.flops += 3 * self.forward_flops(source + target)


def _batches(items: Sequence[_Item], spec: PrefixGuideSpec, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of each step: batches of like length, in an order drawn for every epoch."""
    lengths = np.asarray([len(item.prompt) + len(item.response) for item in items])
    for epoch in range(spec.epochs):
        draws = stream(seed, "prefix guide order", epoch)
        order = np.argsort(lengths + 8 * draws.random(len(lengths)), kind="stable")
        starts = draws.permutation(math.ceil(len(order) / spec.batch_size)) * spec.batch_size
        yield from (order[start : start + spec.batch_size] for start in starts)


def _build(spec: PrefixGuideSpec, vocabulary: int, padding: int) -> nn.ModuleDict:
    """The model with random weights from torch's state."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=spec.width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        intermediate_size=spec.feedforward,
        pad_token_id=padding,
    )
    return nn.ModuleDict({"body": LlamaModel(config), "head": nn.Linear(spec.width, 1)})
