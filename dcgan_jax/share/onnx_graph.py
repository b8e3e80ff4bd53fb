"""The generator as an ONNX graph."""

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from dcgan_jax.share.folding import Layer


def onnx_graph(layers: list[Layer], metadata: dict[str, str], *, classes: int = 0) -> bytes:
    """The content of an ONNX file: ``z`` (N, latent_dim) -> ``images`` (N, H, W, C) in [-1, 1], float32, for any N.

    With alpha the colours are premultiplied, as those of ``sample``. With ``classes`` it has a second input, ``labels``
    (N,), int64 from 0.

    Args:
      layers: what ``folded`` returns.
      metadata: what is written into the file beside the graph.
    """
    height, width = (side * 2 ** (len(layers) - 1) for side in layers[0].kernel.shape[:2])
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", layers[0].kernel.shape[2] - classes])]
    nodes, first = [], "z"
    constants = [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])]
    if classes:
        inputs.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]))
        constants.append(helper.make_tensor("classes", TensorProto.INT64, [], [classes]))
        constants.append(helper.make_tensor("values", TensorProto.FLOAT, [2], [0.0, 1.0]))
        nodes.append(helper.make_node("OneHot", ["labels", "classes", "values"], ["weights"]))
        nodes.append(helper.make_node("Concat", ["z", "weights"], ["both"], axis=1))
        first = "both"
    nodes.append(helper.make_node("Unsqueeze", [first, "axes"], ["x0"]))
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        geometry: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]} if i else {}
        constants.append(numpy_helper.from_array(layer.kernel.transpose(2, 3, 0, 1).copy(), f"kernel{i}"))
        constants.append(numpy_helper.from_array(layer.bias, f"bias{i}"))
        nodes.append(helper.make_node("ConvTranspose", [f"x{i}", f"kernel{i}", f"bias{i}"], [f"y{i}"], **geometry))
        nodes.append(helper.make_node("Tanh" if last else "Relu", [f"y{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Transpose", [f"x{len(layers)}"], ["images"], perm=[0, 2, 3, 1]))
    images = [height, width, layers[-1].kernel.shape[3]]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *images])
    graph = helper.make_graph(nodes, "generator", inputs, [images], constants)
    # An operator set and a file version that runtimes of 2022 already read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.producer_name = "dcgan_jax"
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
