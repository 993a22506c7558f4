"""From a JAX function to an ONNX file."""
