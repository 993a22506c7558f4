"""ONNX files as networks that can be traced, trained and compressed."""
