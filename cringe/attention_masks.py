"""Masks of attention that are built without a look at what they hold.

From a mask of padding, (B, L), transformers builds the mask of attention itself, and asks first whether anything is
padding at all. On a GPU that question makes the computer wait until the device has caught up, several times in a
step of training. A mask of four dimensions is taken as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FAMILIES = frozenset({"bart", "blenderbot", "blenderbot-small", "gpt2", "llama", "mbart", "pegasus"})
"""Whose attention is masked by position alone; others have windows or biases that they derive from the padding."""


def takes_square_masks(model: PreTrainedModel) -> bool:
    """Should a model be given boolean masks that broadcast to (B, 1, L, L)? On CPU nobody waits for an answer."""
    config = model.config
    fits = config.model_type in _FAMILIES and getattr(config, "_attn_implementation", None) == "sdpa"
    return fits and model.device.type != "cpu"


def causal_mask(ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """(1, 1, L, L), or (B, 1, L, L) with a mask of padding (B, L): True where the row's token sees the column's.

    Every token sees itself, padding too: attention to nothing is not a number.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    seen = places <= places[:, None]
    if mask is None:
        return seen[None, None]
    return ((seen & mask[:, None, :]) | (places == places[:, None]))[:, None]
