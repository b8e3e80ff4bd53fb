"""The generator as an ONNX graph."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dcgan_jax.share.folding import Dense, Folded, Layer


class _Nodes:
    """The nodes of a graph, and its constants."""

    def __init__(self):
        self.nodes, self.constants = [], [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])]

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def array(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def classes(self, number: int) -> str:
        """z with one number for each class at its end."""
        self.constants.append(helper.make_tensor("classes", TensorProto.INT64, [], [number]))
        self.constants.append(helper.make_tensor("values", TensorProto.FLOAT, [2], [0.0, 1.0]))
        self.add("OneHot", ["labels", "classes", "values"], "weights")
        return self.add("Concat", ["z", "weights"], "both", axis=1)

    def dense(self, x: str, layer: Dense, name: str) -> str:
        arrays = [self.array(f"{name}_kernel", layer.kernel), self.array(f"{name}_bias", layer.bias)]
        return self.add("Gemm", [x, *arrays], name)

    def layer(self, x: str, layer: Layer, i: int, activation: str) -> str:
        geometry: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]} if i else {}
        arrays = [self.array(f"kernel{i}", layer.kernel.transpose(2, 3, 0, 1)), self.array(f"bias{i}", layer.bias)]
        y = self.add("ConvTranspose", [x, *arrays], f"y{i}", **geometry)
        for kind, part in (("Mul", layer.scale), ("Add", layer.shift)):
            if part:
                numbers = self.dense("hidden", part, f"{kind}{i}")
                y = self.add(kind, [y, self.add("Unsqueeze", [numbers, "axes"], f"{kind}{i}_map")], f"{kind}{i}_y")
        return self.add(activation, [y], f"x{i + 1}")


def onnx_graph(network: Folded, metadata: dict[str, str], *, classes: int = 0) -> bytes:
    """The content of an ONNX file: ``z`` (N, latent_dim) -> ``images`` (N, H, W, C) in [-1, 1], float32, for any N.

    With alpha the colours are premultiplied, as those of ``sample``. With ``classes`` it has a second input, ``labels``
    (N,), int64 from 0.

    Args:
      network: what ``folded`` returns.
      metadata: what is written into the file beside the graph.
    """
    layers, graph = network.layers, _Nodes()
    height, width = (side * 2 ** (len(layers) - 1) for side in layers[0].kernel.shape[:2])
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", layers[0].kernel.shape[2] - classes])]
    if classes:
        inputs.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]))
    z = graph.classes(classes) if classes else "z"
    if network.hidden:
        graph.add("Relu", [graph.dense(z, network.hidden, "sums")], "hidden")
    x = graph.add("Unsqueeze", [z, "axes"], "x0")
    for i, layer in enumerate(layers):
        x = graph.layer(x, layer, i, "Relu" if i < len(layers) - 1 else "Tanh")
    graph.add("Transpose", [x], "images", perm=[0, 2, 3, 1])
    images = [height, width, layers[-1].kernel.shape[3]]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *images])
    content = helper.make_graph(graph.nodes, "generator", inputs, [images], graph.constants)
    # An operator set and a file version that runtimes of 2022 already read.
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.producer_name = "dcgan_jax"
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
