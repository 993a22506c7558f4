"""What every operator of an ONNX file computes, by kind."""
