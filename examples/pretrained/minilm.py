"""The sentence encoder all-MiniLM-L6-v2: BERT (Devlin et al., 2019) with 6 layers of 384 channels.

Weights: ``model.safetensors`` of sentence-transformers/all-MiniLM-L6-v2. The host looks tokens up
in the table of words and says which of them count; the rest is the network.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Bert", "BertShape", "MiniLM", "load_minilm"]

MASKED = -1e9
"""What is added to the scores of a key that does not count."""


@dataclass(frozen=True)
class BertShape:
    """Sizes of an encoder of at most ``tokens`` tokens."""

    tokens: int
    width: int = 384
    depth: int = 6
    heads: int = 12
    hidden: int = 1536
    epsilon: float = 1e-12


class BertLayer(nn.Module):
    """Attention and two linear layers, each added to the tokens, which are normalized then."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query, self.key, self.value, self.mix = (
            nn.Linear(shape.width, shape.width) for _ in range(4)
        )
        self.norm1 = nn.LayerNorm(shape.width, shape.epsilon)
        self.expand = nn.Linear(shape.width, shape.hidden)
        self.project = nn.Linear(shape.hidden, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, shape.epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the tokens (b, t, c), with what is added to the scores (b, 1, 1, t)."""
        projections = self.query, self.key, self.value
        q, k, v = (of(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for of in projections)
        taken = F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.mix(taken))
        return self.norm2(x + self.project(F.gelu(self.expand(x))))


class Bert(nn.Module):
    """Words with their positions, normalized, through layers; the mean of the tokens that count."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, shape.tokens, shape.width))
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.layers = nn.ModuleList(BertLayer(shape) for _ in range(shape.depth))

    def forward(self, words: Tensor, mask: Tensor, shares: Tensor) -> Tensor:
        """Return sentences (b, c), given the rows of words' table (b, t, c), a mask (b, t), 1 for
        tokens that count, and what each of them counts in the mean (b, t)."""
        x, bias = self.norm(words + self.positions), (1 - mask)[:, None, None, :] * MASKED
        for layer in self.layers:
            x = layer(x, bias)
        return (shares[:, None] @ x).squeeze(1)


@dataclass(frozen=True, eq=False)
class MiniLM:
    """The network, and the table of words (vocabulary, c) that the host reads."""

    module: Bert
    words: Tensor

    def inputs(self, sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the network is given for sentences, each the ids of its tokens, of which the
        first ones are taken."""
        tokens = self.module.positions.shape[1]
        ids = torch.zeros(len(sentences), tokens, dtype=torch.long)
        mask = torch.zeros(len(sentences), tokens)
        for index, sentence in enumerate(sentences):
            length = min(tokens, len(sentence))
            ids[index, :length] = torch.tensor(sentence[:length])
            mask[index, :length] = 1
        return self.words[ids], mask, mask / mask.sum(1, keepdim=True)


NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "expand",
    "output.dense": "project",
    "output.LayerNorm": "norm2",
}
"""Parts of a layer by their published names, and what they are here."""


def load_minilm(path: str | os.PathLike[str], shape: BertShape) -> MiniLM:
    """Return the published network for sequences of the shape's tokens, at most 512."""
    state, tables = load_file(path), "embeddings."
    positions = state[f"{tables}position_embeddings.weight"][: shape.tokens]
    own = {"positions": (positions + state[f"{tables}token_type_embeddings.weight"][0])[None]}
    for part in ("weight", "bias"):
        own[f"norm.{part}"] = state[f"{tables}LayerNorm.{part}"]
        for layer in range(shape.depth):
            for published, name in NAMES.items():
                value = state[f"encoder.layer.{layer}.{published}.{part}"]
                own[f"layers.{layer}.{name}.{part}"] = value
    module = Bert(shape).eval()
    module.load_state_dict(own)
    return MiniLM(module, state[f"{tables}word_embeddings.weight"])
