"""What a beam search has read, kept once for all beams of a prompt: nothing moves when beams change places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROOM = 8
"""Steps between two prunings of a tree."""
_NAME = "beam_tree"


class BeamTree:
    """The attention states of B prompts with K beams each, and who may look at what.

    The beams of a prompt form a tree. Each state that was ever computed has a slot of its prompt, and a mask says
    which slots are a beam's own past: where others copy the states of all beams at every step, here a row of the mask
    changes. All beams of a prompt attend in one product, over the slots of all of them. Most branches die soon; their
    slots are pruned every few steps, so the slots stay few. Prompt and encoder have one entry a prompt.

    Args:
        cache: the states after the prompts were read, one row a prompt.
        mask: (B, P) bool, False at the prompts' padding.
        beams: K.
        steps: most tokens that will be read.
        dtype: of the model.
    """

    def __init__(
        self, cache: DynamicCache | EncoderDecoderCache, mask: Tensor, *, beams: int, steps: int, dtype: torch.dtype
    ) -> None:
        crossed = isinstance(cache, EncoderDecoderCache)
        self.beams = beams
        self.filled = mask.shape[1]
        """Slots in use, those of the step that is under way among them."""
        self.past = self.filled - 1
        """Tokens of each beam before the one that is being read."""
        self._left = steps
        own = cache.self_attention_cache if crossed else cache
        self._layers = [_TreeLayer(self, layer.keys, layer.values) for layer in own.layers]
        self._cross = cache.cross_attention_cache.layers if crossed else []
        tree = Cache(layers=self._layers)
        self.cache = EncoderDecoderCache(tree, cache.cross_attention_cache) if crossed else tree
        """What the model's ``forward`` takes for its cache."""
        self._mask = torch.full(mask.shape, -math.inf, dtype=dtype, device=mask.device)
        self._mask = self._mask.masked_fill(mask, 0.0)[:, None].repeat(1, beams, 1)
        self._own = torch.full((beams, beams), -math.inf, dtype=dtype, device=mask.device).fill_diagonal_(0.0)
        self._grow()

    @property
    def mask(self) -> Tensor:
        """(B, 1, K, slots) what is added to the attention of the step that is under way."""
        return self._mask[:, None, :, : self.filled]

    def advance(self, parents: Tensor) -> None:
        """Make ready for the next token of each beam, which goes on from beam ``parents`` (B, K) of its prompt."""
        if self._mask.shape[2] < self.filled + self.beams:
            self._move(parents)
            self._prune()
        else:
            self._move(parents)
        self._mask[:, :, self.filled : self.filled + self.beams] = self._own
        self.filled += self.beams
        self.past += 1
        self._left -= 1

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone."""
        self._mask = self._mask[prompts]
        for layer in [*self._layers, *self._cross]:
            layer.keys, layer.values = layer.keys[prompts], layer.values[prompts]

    def _move(self, parents: Tensor) -> None:
        seen = self._mask[:, :, : self.filled]
        seen.copy_(seen.gather(1, parents[..., None].expand_as(seen)))

    def _prune(self) -> None:
        """Drop the slots that no beam looks back at, and make room for more."""
        alive = (self._mask[:, :, : self.filled] == 0).any(dim=1)
        self.filled = int(alive.sum(dim=1).max())
        slots = alive.byte().argsort(dim=1, descending=True, stable=True)[:, : self.filled]
        self._mask = self._mask.gather(2, slots[:, None].expand(-1, self.beams, -1))
        places = slots[:, None, :, None]
        for layer in self._layers:
            layer.keys = layer.keys.gather(2, places.expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3]))
            layer.values = layer.values.gather(2, places.expand(-1, layer.values.shape[1], -1, layer.values.shape[3]))
        self._grow()

    def _grow(self) -> None:
        more = self.beams * min(_ROOM, self._left)
        self._mask = torch.nn.functional.pad(self._mask, (0, more), value=-math.inf)
        for layer in self._layers:
            layer.keys, layer.values = (
                torch.nn.functional.pad(states, (0, 0, 0, more)) for states in (layer.keys, layer.values)
            )


class _TreeLayer(CacheLayerMixin):
    """The slots of one layer: (B, heads, slots, d) keys and values."""

    def __init__(self, tree: BeamTree, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._tree = tree
        self.keys, self.values = keys, values
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write (B·K, heads, 1, d) states of the step's tokens; return all slots in use, without a copy."""
        stop = self._tree.filled
        start = stop - self._tree.beams
        for slots, states in ((self.keys, key_states), (self.values, value_states)):
            slots[:, :, start:stop] = states.squeeze(2).unflatten(0, (len(slots), -1)).transpose(1, 2)
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: it never is empty."""

    def get_seq_length(self) -> int:
        """Tokens before those of the step: what a model derives positions from."""
        return self._tree.past

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Slots in use, and where they begin; nobody asks, for the mask is given."""
        return self._tree.filled, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """Attention of (B·K, heads, 1, d) queries to (B, heads, n, d) keys: the beams of a prompt side by side.

    Returns:
        (B·K, 1, heads, d).
    """
    rows = query.squeeze(2).unflatten(0, (len(key), -1)).transpose(1, 2)
    output, _ = sdpa_attention_forward(module, rows, key, value, attention_mask, **rest | {"is_causal": False})
    return output.flatten(0, 1).unsqueeze(1), None


ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """While this holds, the model attends as a `BeamTree` needs it."""
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values()
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = _NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
