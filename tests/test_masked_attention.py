"""Masked attention from PyTorch to the RTL: causal, by constants, and by lengths given at run
time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError, NupesError, UnsupportedError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import most_hidden, verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.masks import masking
from nupes.quantizer.stages.stage import FusedNetwork
from nupes.verify import check_outputs
from tests.whole import check_exact

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)

TOKENS = 6

ERROR = 0.005
"""Part of the output's variance that 8 bits may add as error."""

PAIRS = torch.tensor(np.random.default_rng(0).integers(0, 2, (TOKENS, TOKENS))).bool()
PAIRS |= torch.eye(TOKENS, dtype=torch.bool)

BIASES = torch.tensor(np.random.default_rng(0).normal(size=(2, TOKENS, TOKENS))).float()

CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()

DISTANCE = torch.arange(TOKENS) - torch.arange(TOKENS)[:, None]

SLOPES = torch.tensor([0.5, 0.25])[:, None, None]

Mask = Callable[[Tensor, Tensor, Tensor], Tensor]


class Masked(nn.Module):
    """Attention of two heads in a way, added to the tokens, and classes of each token."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.qkv, self.norm = nn.Linear(8, 24), nn.LayerNorm(8)
        self.attend = attend

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(x)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        given = () if mask is None else (mask,)
        y = self.attend(q, k, v, *given).transpose(1, 2).flatten(2)
        return self.head(self.norm(x + y))


class Padded(Masked):
    """The same with a mask (b, tokens), 1 for tokens that count."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, (1 - mask)[:, None, None, :] * -1e9)


class Encoder(nn.Module):
    """PyTorch's own encoder layers with a mask."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x), self.mask, is_causal=True))


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return attention with a mask that is added to the scores."""
    return (q @ k.transpose(-2, -1) / 2 + mask).softmax(-1) @ v


def added() -> Tensor:
    """Return a mask (tokens, tokens) to be added to scores."""
    return torch.zeros(TOKENS, TOKENS).masked_fill(~PAIRS, -torch.inf)


SDPA = F.scaled_dot_product_attention

MODULES: dict[str, Callable[[], nn.Module]] = {
    "causal": lambda: Masked(lambda q, k, v: SDPA(q, k, v, is_causal=True)),
    "pairs": lambda: Masked(lambda q, k, v: SDPA(q, k, v, attn_mask=PAIRS)),
    "pairs of each head": lambda: Masked(
        lambda q, k, v: SDPA(q, k, v, attn_mask=torch.stack([PAIRS, PAIRS.T]))
    ),
    "by hand": lambda: Masked(lambda q, k, v: by_hand(q, k, v, added())),
    "biases of each head": lambda: Masked(lambda q, k, v: SDPA(q, k, v, attn_mask=BIASES)),
    "biases, by hand": lambda: Masked(lambda q, k, v: by_hand(q, k, v, BIASES[:1])),
    "encoder layers": Encoder,
    "lengths": lambda: Padded(lambda q, k, v, mask: SDPA(q, k, v, attn_mask=mask)),
    "lengths, by hand": lambda: Padded(by_hand),
    "lengths, pairs and biases": lambda: Padded(
        lambda q, k, v, mask: by_hand(q, k, v, mask + torch.where(CAUSAL, BIASES, -torch.inf))
    ),
    "pairs and biases": lambda: Masked(lambda q, k, v: by_hand(q, k, v, added() + BIASES)),
    "causal, and biases of keys": lambda: Masked(
        lambda q, k, v: by_hand(q, k, v, torch.where(CAUSAL, SLOPES * DISTANCE, -torch.inf))
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_masked_attention_is_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str
) -> None:
    torch.manual_seed(0)
    module, rng = MODULES[name]().eval(), np.random.default_rng(0)
    x: tuple[np.ndarray, ...] = (rng.normal(size=(60, TOKENS, 5)).astype(np.float32),)
    if isinstance(module, Padded):  # lengths from 1 to all
        x = (*x, np.tile(np.tri(TOKENS, dtype=np.float32), (10, 1)))
    network = nupes.quantize(module, "W8A8", x if len(x) > 1 else x[0], method="rtn")
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, x)).numpy()
    assert np.square(network(*x) - expected).mean() < ERROR * expected.var()
    program, hardware = nupes.compile(network, ARRAY), running(ARRAY)
    few = tuple(part[:TOKENS] for part in x)
    check = check_outputs(hardware, program, few)
    assert check.exact
    check_exact(running, network, x, ARRAY)


def test_a_query_that_two_masks_leave_no_key() -> None:
    """The first token is padding, and sees no other one."""
    module, rng = MODULES["lengths, pairs and biases"]().eval(), np.random.default_rng(0)
    x = rng.normal(size=(60, TOKENS, 5)).astype(np.float32)
    mask = np.tile(np.tri(TOKENS, dtype=np.float32), (10, 1))
    network = nupes.quantize(module, "W8A8", (x, mask), method="rtn")
    mask[3, 0] = 0
    message = "input 'input.mask': a mask must leave every query a key, not none in sample 3"
    with pytest.raises(InputError, match=message):
        network(x, mask)


def test_masks_that_are_alike_are_one_constant() -> None:
    x = np.random.default_rng(0).normal(size=(8, TOKENS, 5)).astype(np.float32)
    network = nupes.quantize(Encoder().eval(), "W8A8", x, method="rtn")
    assert [item.tensor.shape for item in network.constants] == [(TOKENS, 1, TOKENS)]


def test_biases_of_keys_are_no_constants() -> None:
    x = np.random.default_rng(0).normal(size=(8, TOKENS, 5)).astype(np.float32)
    module = MODULES["causal, and biases of keys"]().eval()
    network = nupes.quantize(module, "W8A8", x, method="rtn")
    assert [item.tensor.shape for item in network.constants] == [(TOKENS, 1, TOKENS)]


@pytest.mark.parametrize("name", ["lengths", "lengths, pairs and biases"])
def test_padding_changes_nothing_of_what_counts(name: str) -> None:
    module = MODULES[name]().eval()
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, TOKENS, 5)).astype(np.float32)
    mask = np.tile(np.tri(TOKENS, dtype=np.float32), (10, 1))
    network = nupes.quantize(module, "W4A4", (x, mask), method="rtn")
    other = np.where(mask[:, :, None] > 0, x, rng.normal(size=x.shape)).astype(np.float32)
    found, same = (network.run(*network.encode_all(part, mask)) for part in (x, other))
    count = mask > 0
    np.testing.assert_array_equal(found[count], same[count])


def test_a_capture_is_compared_on_the_sample_that_hides_most() -> None:
    module = MODULES["lengths"]().eval()
    graph = capture(export_module(module, (2, TOKENS, 5), (2, TOKENS)))
    x = np.random.default_rng(0).normal(size=(3, TOKENS, 5)).astype(np.float32)
    mask = np.array([[1] * TOKENS, [1, 1, 0, 0, 0, 0], [1] * TOKENS], np.float32)
    given = Batch((torch.from_numpy(x), torch.from_numpy(mask)))
    network = fuse(graph)
    verify_capture(module, graph, network, given)
    assert graph.program is not None
    assert most_hidden(graph.program, network, given) == {1: 1}


def test_a_capture_that_hides_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FusedNetwork.start

    def start(network: FusedNetwork, maps: Batch) -> dict[str, Tensor]:
        known = honest(network, maps)
        for name in masking(network):
            known[name] = torch.zeros_like(known[name])
        return known

    module = MODULES["lengths"]().eval()
    graph = capture(export_module(module, (2, TOKENS, 5), (2, TOKENS)))
    x, mask = torch.randn(2, TOKENS, 5), torch.tensor([[1.0] * TOKENS, [1, 1, 1, 0, 0, 0]])
    monkeypatch.setattr(FusedNetwork, "start", start)
    with pytest.raises(NupesError, match="layer 'attention': its float values must be the module"):
        verify_capture(module, graph, fuse(graph), Batch((x, mask)))


REFUSED: dict[str, Callable[..., Tensor]] = {
    "a mask must leave every query a key, not none": lambda q, k, v: SDPA(
        q, k, v, attn_mask=torch.zeros(TOKENS, TOKENS).bool()
    ),
    "what is added to scores must be numbers, not NaN": lambda q, k, v: SDPA(
        q, k, v, attn_mask=torch.full((TOKENS, TOKENS), torch.nan)
    ),
    "a mask must be the same for every image of the batch, or an input": lambda q, k, v: SDPA(
        q, k, v, attn_mask=torch.stack([PAIRS, PAIRS.T]).unsqueeze(1)
    ),
    "a mask that is computed must be a sum of numbers and an input": lambda q, k, v: SDPA(
        q, k, v, attn_mask=q[..., :1]
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_masks_are_refused(message: str) -> None:
    program = export_module(Masked(REFUSED[message]).eval(), (2, TOKENS, 5))
    with pytest.raises(UnsupportedError, match=message):
        capture(program)


def test_a_mask_that_lowers_scores_a_little() -> None:
    class Soft(Padded):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return Masked.forward(self, x, (1 - mask)[:, None, None, :] * -10.0)

    module = Soft(lambda q, k, v, mask: SDPA(q, k, v, attn_mask=mask)).eval()
    # Not in the first image, with which the capture is compared.
    x = np.zeros((TOKENS, TOKENS, 5), np.float32), np.tri(TOKENS, dtype=np.float32)[::-1].copy()
    with pytest.raises(InputError, match="a mask must add 0 or at most -1000 to scores, not -10"):
        nupes.quantize(module, "W8A8", x, method="rtn")


def test_an_input_that_is_a_bias_of_keys_is_refused() -> None:
    class Biased(Padded):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return Masked.forward(self, x, mask[:, None, None, :])

    module = Biased(lambda q, k, v, mask: SDPA(q, k, v, attn_mask=mask)).eval()
    x = np.zeros((8, TOKENS, 5), np.float32), np.full((8, TOKENS), 0.5, np.float32)
    with pytest.raises(InputError, match=r"at most -1000 to scores, not 0\.5"):
        nupes.quantize(module, "W8A8", x, method="rtn")


def test_a_mask_that_something_else_reads() -> None:
    class Both(Padded):
        def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x, mask), mask * 2

    module = Both(lambda q, k, v, mask: SDPA(q, k, v, attn_mask=mask)).eval()
    x = np.zeros((4, TOKENS, 5), np.float32), np.ones((4, TOKENS), np.float32)
    with pytest.raises(UnsupportedError, match="its mask must be an input or a constant that noth"):
        nupes.quantize(module, "W8A8", x, method="rtn")


def test_a_mask_that_is_higher_for_what_does_not_count() -> None:
    class Wrong(Padded):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return Masked.forward(self, x, mask[:, None, None, :] * -1e9)

    module = Wrong(lambda q, k, v, mask: SDPA(q, k, v, attn_mask=mask)).eval()
    program = export_module(module, (2, TOKENS, 5), (2, TOKENS))
    with pytest.raises(UnsupportedError, match="a mask must be lower for keys that do not count"):
        capture(program)
