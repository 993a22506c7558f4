"""What to do with the file of a network that another framework wrote."""

from pathlib import Path

PYTORCH = (
    "is a file of PyTorch, which holds no network without its code. Where that code is, write"
    " (pip install onnxscript) torch.onnx.export(net.eval(), (torch.zeros(1, 3, 224, 224),),"
    ' "net.onnx") with the size of your pictures'
)
KERAS = (
    "is a file of Keras. Write there (pip install tf2onnx)"
    ' net = keras.saving.load_model("{name}"); net(keras.ops.zeros((1, 224, 224, 3)));'
    ' net.export("net.onnx", format="onnx") with the size of your pictures'
)
SAVED = (
    "is a file of TensorFlow. Convert it (pip install tf2onnx):"
    " python -m tf2onnx.convert --saved-model {folder} --output net.onnx"
)
LITERT = (
    "is a file of LiteRT. If it is one of floats, convert it (pip install tf2onnx):"
    " python -m tf2onnx.convert --tflite {name} --output net.onnx"
)
OTHER = "is no network that is read here. Write it as ONNX where it was trained"
WRITTEN = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".pt2", ".torchscript"), PYTORCH),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), KERAS),
    **dict.fromkeys((".pb",), SAVED),
    **dict.fromkeys((".tflite", ".lite"), LITERT),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".xml", ".engine", ".ort"), OTHER),
}
"""What a file is and how it becomes ONNX, by how its name ends."""
ARRAYS = (".npz", ".safetensors", ".msgpack")
"""Files of weights alone."""


def advice(model: str) -> str | None:
    """How a file or folder that is no network here becomes one, in a sentence; None of a name.

    Args:
      model: as a user gave it, neither ``FILE.py:FUNCTION`` nor ``FILE.onnx``.
    """
    path, suffix = Path(model), Path(model).suffix.lower()
    if suffix in ARRAYS:
        return (
            f"{model} holds weights and no network: give it as --weights, and the network that they"
            " are of as --model (a name of the zoo or FILE.py:FUNCTION)"
        )
    if (path / "saved_model.pb").is_file():
        return f"{model} {SAVED.format(folder=model)}, and give --model net.onnx"
    if suffix not in WRITTEN:
        return None
    how = WRITTEN[suffix].format(name=model, folder=path.parent)
    return f"{model} {how}, and give --model net.onnx"
