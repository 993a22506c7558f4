"""What is shown while something runs: progress, TensorBoard, interrupts."""
