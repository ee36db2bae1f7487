"""An ONNX graph in the making: constants stored once, nodes in order, checked when it is done."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.tensor import Port, Tensor

__all__ = ["Graph", "Operand", "element_type", "end_name", "prefix", "read", "safe"]


@dataclass(frozen=True)
class Operand:
    """What a layer reads: a tensor, or channels of one, and the name of its value."""

    tensor: Tensor
    value: str


def prefix(layer: Layer) -> str:
    """Return what the names of a layer's values begin with, up to a slash; no other name does."""
    return f"layers/{safe(layer.name)}"


def safe(name: str) -> str:
    """Return a name without slashes, in ASCII; different names stay different."""
    return quote(name, safe="", errors="surrogatepass")


def end_name(base: str, tensor: Tensor, count: int) -> str:
    """Return the name of one of ``count`` inputs or outputs of a model: ``base`` alone if there is
    one, else with the tensor's name."""
    return base if count == 1 else f"{base}/{safe(tensor.name)}"


def element_type(dtype: Any) -> int:
    """Return ONNX's number of a NumPy type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Graph:
    """Nodes and constants so far; ``model`` makes the file's contents of them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Any, dtype: Any, name: str) -> str:
        """Store a value and return its name; equal values are stored once, under the first name."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self.names:
            self.names[key] = name
            self.constants[name] = numpy_helper.from_array(array, name)
        return self.names[key]

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node, named like its output; return the output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def cast(self, value: str, dtype: Any, output: str) -> str:
        """Append a conversion to a NumPy type."""
        return self.add("Cast", [value], output, to=element_type(dtype))

    def model(
        self,
        network: IntegerNetwork,
        inputs: list[tuple[str, Any, list[int | str]]],
        outputs: list[tuple[str, Any, list[int | str]]],
        opsets: dict[str, int],
        doc: str,
    ) -> onnx.ModelProto:
        """Return the model with the given values (name, type, shape) at its ends."""
        first, last = (
            [helper.make_tensor_value_info(name, element_type(t), shape) for name, t, shape in end]
            for end in (inputs, outputs)
        )
        constants = list(self.constants.values())
        graph = helper.make_graph(self.nodes, "nupes", first, last, constants, doc_string=doc)
        imports = [helper.make_opsetid(domain, number) for domain, number in opsets.items()]
        model = helper.make_model(
            graph,
            opset_imports=imports,
            ir_version=helper.find_min_ir_version_for(imports, ignore_unknown=True),
            producer_name="nupes",
            producer_version=version("nupes"),
        )
        scheme = network.metadata.get("scheme")
        helper.set_model_props(model, {"scheme": str(scheme)} if scheme else {})
        return model


def read(graph: Graph, port: Port, whole: Operand, output: str) -> Operand:
    """Append what a port reads of a tensor (b, c, h, w): all of it, or a slice of its channels and
    rows."""
    shape = port.shape(whole.tensor.shape)
    if shape == whole.tensor.shape:
        return whole
    places = (port.first, port.first_row), (port.first + shape[2], port.first_row + shape[0])
    ends = [
        graph.constant(values, np.int64, "slice/" + "_".join(map(str, values)))
        for values in (*places, (1, 2))
    ]
    return Operand(
        replace(whole.tensor, shape=shape), graph.add("Slice", [whole.value, *ends], output)
    )
