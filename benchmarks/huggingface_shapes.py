"""Published networks of Hugging Face's transformers, random weights in their own sizes: captured,
quantized and compiled for a 16x16 array, not simulated.

    python -m benchmarks.huggingface_shapes [--networks bert-base,gpt2] [--blocks 2]

Of the equal blocks of a network two are kept by default; ``--blocks 0`` keeps all. W4A4 by ``rtn``,
ranges from two random inputs. The vocabulary has 1,000 ids, whatever the published one: its table
is the host's. Each network is a process of its own, with limits of time and memory. Needs
transformers (extra ``coverage``).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import typer

import nupes
from benchmarks.alone import Result, preload, run_alone
from benchmarks.huggingface import build
from benchmarks.huggingface_zoo import PADDING, Network
from nupes.arch.config import ArrayConfig
from nupes.inputs import quiet_torch

ARRAY = ArrayConfig(rows=16, cols=16, attention=True, products=True, act_depth=1 << 20)

SCHEME = "W4A4"

SAMPLES = 2

TOKENS, WORDS = 128, 1000

IMAGE, SPECTRUM, WAVE = (3, 224, 224), (80, 3000), (16000,)
"""An image, 30 seconds as frequencies, and one second at 16 kHz."""

BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072,
}  # fmt: skip
SMALL = {
    "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
    "intermediate_size": 1536,
}  # fmt: skip
TEXT = {"vocab_size": WORDS}
DECODER = {**BASE, **TEXT, "use_cache": False}

NETWORKS = {
    "bert-base": Network("BertModel", {**BASE, **TEXT}, mask=True),
    "distilbert-base": Network(
        "DistilBertModel",
        {**TEXT, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
        mask=True,
    ),
    "roberta-base": Network(
        "RobertaModel", {**BASE, **TEXT, "max_position_embeddings": 514}, mask=True
    ),
    "minilm-l6": Network(
        "BertModel", {**SMALL, **TEXT, "num_hidden_layers": 6, "num_attention_heads": 12}, mask=True
    ),
    "vit-b-16": Network("ViTModel", BASE, IMAGE),
    "deit-s": Network("DeiTModel", SMALL, IMAGE),
    "dinov2-s": Network("Dinov2Model", {**SMALL, "image_size": 224, "patch_size": 14}, IMAGE),
    "gpt2": Network("GPT2Model", {**TEXT, "use_cache": False}),
    "opt-125m": Network(
        "OPTModel", {**DECODER, "ffn_dim": 3072, "word_embed_proj_dim": 768, "pad_token_id": 0}
    ),
    "llama-160m": Network("LlamaModel", DECODER),
    "qwen2-0.5b": Network(
        "Qwen2Model",
        {
            **DECODER, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "intermediate_size": 4864,
        },
    ),
    "t5-small-encoder": Network(
        "T5EncoderModel",
        {**TEXT, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
        mask=True,
    ),
    "whisper-tiny-encoder": Network(
        "WhisperModel",
        {
            "d_model": 384, "encoder_layers": 4, "decoder_layers": 1,
            "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 1536,
            "decoder_ffn_dim": 1536, **TEXT, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 1,
        },
        SPECTRUM,
        part="encoder",
    ),
    "wav2vec2-base": Network("Wav2Vec2Model", {**BASE, "apply_spec_augment": False}, WAVE),
}  # fmt: skip
"""What a configuration leaves out is as published: the defaults of its class."""

BLOCKS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
"""Names of the number of equal blocks."""

GPT2_BLOCKS = 12
"""Of GPT-2's configuration, which leaves them to its class."""


def blocks_of(network: Network) -> tuple[str, int]:
    """Return the name of the number of equal blocks, and the number."""
    found = [(name, network.config[name]) for name in BLOCKS if name in network.config]
    return found[0] if found else ("n_layer", GPT2_BLOCKS)


def shortened(network: Network, blocks: int) -> Network:
    """Return a network of so many equal blocks, of all if 0."""
    name, most = blocks_of(network)
    return replace(network, config={**network.config, name: min(blocks or most, most)})


def draw(network: Network) -> tuple[np.ndarray, ...]:
    """Return random inputs; text with a mask is of all tokens, and of half of them."""
    rng = np.random.default_rng(0)
    if network.shape is not None:
        return (rng.normal(size=(SAMPLES, *network.shape)).astype(np.float32),)
    ids = rng.integers(3, WORDS, (SAMPLES, TOKENS))
    if not network.mask:
        return (ids,)
    mask = np.arange(TOKENS) < np.array([[TOKENS], [TOKENS // 2]])
    return np.where(mask, ids, PADDING), mask.astype(np.int64)


def measure(name: str, blocks: int) -> Result:
    """Return layers, MACs and cycles of a network, or why it has none."""
    torch.set_num_threads(1)
    network = shortened(NETWORKS[name], blocks)
    with quiet_torch():
        integers = nupes.quantize(build(network), SCHEME, draw(network), method="rtn")
    program = nupes.compile(integers, ARRAY)
    macs = sum(layer.macs for layer in program.layers)
    return {"layers": len(program.layers), "macs": macs, "cycles": program.cycles}


def cells(name: str, blocks: int, found: Result) -> Iterator[str]:
    """Yield the cells of a network's row."""
    network = NETWORKS[name]
    most = blocks_of(network)[1]
    yield name
    yield "x".join(map(str, network.shape)) if network.shape else f"{TOKENS} tokens"
    yield f"{min(blocks or most, most)} of {most}"
    if "reason" in found:
        yield from ("", "", " ".join(found["reason"].split())[:200])
    else:
        yield from (f"{found['layers']:,}", f"{found['macs'] / 1e6:,.0f}", f"{found['cycles']:,}")
    yield from (f"{found.get('seconds', 0):,.0f}", f"{found.get('gib', 0):.1f}")


def main(
    networks: Annotated[str, typer.Option(help="Comma-separated networks.")] = "",
    blocks: Annotated[int, typer.Option(help="Equal blocks to keep; 0: all.")] = 2,
    seconds: Annotated[float, typer.Option(help="Limit of time for each network.")] = 1800,
    gib: Annotated[float, typer.Option(help="Limit of memory for each network.")] = 6,
) -> None:
    """Print a line of Markdown of every network as soon as it is measured."""
    preload("benchmarks.huggingface", "nupes.quantizer.pipeline", "nupes.compiler.program")
    print("| network | input | blocks | layers | million MACs | cycles at 16x16 | seconds | GiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in networks.split(",") if networks else NETWORKS:
        found = run_alone(measure, name, blocks, seconds=seconds, gib=gib)
        print(f"| {' | '.join(cells(name, blocks, found))} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
