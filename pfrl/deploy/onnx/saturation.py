"""Products of integers that are summed up in 16 bits, where they may not fit.

Without VNNI, x86's instruction for uint8 times int8 adds two products in 16 bits: 255 · 127 twice
is too much, and is cut off. ONNX Runtime uses it; LiteRT's XNNPACK does not. With weights of 7 bits
every two products fit, whatever the processor.
"""

from functools import cache

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from pfrl.deploy.onnx.emit import IR_VERSION, OPSET

CODE, WEIGHT, SIZE = 255, 127, 64
"""The largest codes, and of how many the sums are."""
FITS = (2**15 - 1) // CODE
"""The largest sum of two weights whose products with the largest code fit into 16 bits."""


@cache
def saturates() -> bool:
    """Whether ONNX Runtime on this processor cuts off sums of int8 products; tried out once.

    Compared with what integers give: a convolution and a product of matrices of the largest codes.
    """
    exact = CODE * WEIGHT * SIZE
    weights = np.full((SIZE, SIZE), WEIGHT, np.int8)
    constants = {
        "one": np.float32(1),
        "step": np.float32(exact / 200),
        "code": np.uint8(0),
        "weight": np.int8(0),
        "kernel": weights.reshape(SIZE, SIZE, 1, 1),
        "matrix": weights,
    }
    nodes = [
        helper.make_node(
            "QLinearConv",
            ["images", "one", "code", "kernel", "one", "weight", "step", "code"],
            ["convolved"],
        ),
        helper.make_node("MatMulInteger", ["rows", "matrix"], ["multiplied"]),
    ]
    kind = onnx.TensorProto
    images, rows = np.full((1, SIZE, 8, 8), CODE, np.uint8), np.full((16, SIZE), CODE, np.uint8)
    graph = helper.make_graph(
        nodes,
        "largest",
        [
            helper.make_tensor_value_info("images", kind.UINT8, images.shape),
            helper.make_tensor_value_info("rows", kind.UINT8, rows.shape),
        ],
        [
            helper.make_tensor_value_info("convolved", kind.UINT8, images.shape),
            helper.make_tensor_value_info("multiplied", kind.INT32, rows.shape),
        ],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    convolved, multiplied = map(np.asarray, session.run(None, {"images": images, "rows": rows}))
    return bool((convolved != 200).any() or (multiplied != exact).any())


def right_everywhere(model: onnx.ModelProto) -> bool:
    """Whether no two products of a layer of a file can exceed 16 bits, whatever is put in.

    Then every processor computes the file right. In which order a runtime sums up is its own
    business, so the two largest weights of an output are taken.
    """
    kernels = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in kernels:
            continue
        codes = numpy_helper.to_array(kernels[node.input[0]])
        if codes.dtype != np.int8:
            continue
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        rows = np.abs(np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1).astype(int))
        if np.sort(rows, 1)[:, -2:].sum(1).max() > FITS:
            return False
    return True
