"""``pfrl tune``: hyper-parameters of a compression, searched with Optuna."""
