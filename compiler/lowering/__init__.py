"""Layers in, passes of the array out: one module for each kind of operator, found by its kind."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering import (
    average_pool,
    concat,
    conv,
    matmul,
    max_pool,
    mosaic,
    normalize,
    product,
    select,
    subtract_max,
    sum_of_products,
    transposed_conv,
    weighted_mean,
)
from nupes.compiler.lowering.alignment import Inputs, copy_parts, none
from nupes.compiler.lowering.bands import uses_of
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.limits import check_network
from nupes.compiler.lowering.passes import Work
from nupes.compiler.lowering.queries import most_queries, split_queries
from nupes.compiler.place.placement import Placement, place
from nupes.compiler.place.ranges import Part, choose_ranges
from nupes.compiler.place.spilling import Uses
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import (
    AveragePool,
    Concat,
    Conv,
    Matmul,
    MaxPool,
    Mosaic,
    Normalize,
    Product,
    Select,
    SubtractMax,
    SumOfProducts,
    TransposedConv,
    WeightedMean,
)

__all__ = ["LOWERINGS", "Lowering", "adapt", "arrange", "lower"]


@dataclass(frozen=True)
class Lowering:
    """What the compiler does for operators of one kind: ``lower`` makes work of a layer, ``parts``
    names tensors that would better lie inside its result, ``whole`` are the inputs of so many that
    are read in whole words."""

    lower: Callable[[Layer, Context], tuple[Work, ...]]
    parts: Callable[[Layer, IntegerNetwork], Iterable[Part]] = lambda layer, network: ()
    whole: Inputs = none


def seconds(count: int) -> range:
    """Return the second inputs of so many that are pairs, by number."""
    return range(1, count, 2)


LOWERINGS: dict[str, Lowering] = {
    Conv.kind: Lowering(conv.lower),
    TransposedConv.kind: Lowering(transposed_conv.lower),
    AveragePool.kind: Lowering(average_pool.lower),
    Select.kind: Lowering(select.lower, select.parts),
    MaxPool.kind: Lowering(max_pool.lower, whole=range),
    Mosaic.kind: Lowering(mosaic.lower, mosaic.parts),
    Concat.kind: Lowering(concat.lower, concat.parts),
    Product.kind: Lowering(product.lower, whole=seconds),
    SumOfProducts.kind: Lowering(sum_of_products.lower, whole=seconds),
    Matmul.kind: Lowering(matmul.lower, whole=range),
    SubtractMax.kind: Lowering(subtract_max.lower, whole=range),
    WeightedMean.kind: Lowering(weighted_mean.lower, whole=range),
    Normalize.kind: Lowering(normalize.lower, whole=range),
}
"""The lowerings by the kind of the operator."""


OF_TOKENS = {SubtractMax.kind, WeightedMean.kind, Normalize.kind, Matmul.kind}
"""Operators that need factors of tokens, or what does."""


def lowering_of(layer: Layer) -> Lowering:
    """Return a layer's lowering; refuse, by name, what the array cannot do."""
    kind = layer.op.kind
    if kind not in LOWERINGS:
        able = ", ".join(sorted(LOWERINGS))
        raise UnsupportedError(
            f"layer {layer.name!r}: {kind} cannot run on the array yet; operators that can: {able}"
        )
    return LOWERINGS[kind]


def adapt(network: IntegerNetwork, config: ArrayConfig) -> IntegerNetwork:
    """Return a network of equal results that suits an array: its layers read what they must read in
    whole words, and heads of attention have as many queries at a time as the accumulators hold, or
    fewer where their scores do not fit the activation memory otherwise: as few as a word has lanes
    where nothing fits."""
    whole = {kind: lowering.whole for kind, lowering in LOWERINGS.items()}
    aligned = copy_parts(network, config.lanes, whole)
    queries = min(most_queries(aligned), config.acc_depth)
    if not queries:
        return aligned
    found = split_queries(aligned, queries)
    while queries > config.lanes and not fits(found, config):
        queries = -(-queries // 2)
        found = split_queries(aligned, queries)
    return found


def fits(network: IntegerNetwork, config: ArrayConfig) -> bool:
    """Whether an array has room for a network."""
    try:
        arrange(network, config)
    except CapacityError:
        return False
    return True


def arrange(network: IntegerNetwork, config: ArrayConfig, images: int = 1) -> Placement:
    """Return where a network's tensors lie in memory, or those of so many images; raise
    ``NupesError`` by name."""
    check_network(network, config)
    parts = [part for layer in network.layers for part in lowering_of(layer).parts(layer, network)]
    # Factors of tokens are those of one image at a time.
    kinds = [layer.op.kind for layer in network.layers]
    apart = max((index + 1 for index, kind in enumerate(kinds) if kind in OF_TOKENS), default=0)

    def uses(index: int, placement: Placement) -> Uses | None:
        context = Context(network, config, placement, in_bands=True)
        layer = network.layers[index]
        return uses_of(layer, lower(layer, context), context)

    spills = config.spills and apart == 0
    ranges = choose_ranges(network, parts, config)
    return place(network, config, ranges, images, apart, uses if spills else None)


def lower(layer: Layer, context: Context) -> tuple[Work, ...]:
    """Return what the array does for a layer, in order; nothing where it moves nothing."""
    return lowering_of(layer).lower(layer, context)
