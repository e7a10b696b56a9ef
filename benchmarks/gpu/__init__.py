"""What there is to learn on a machine with a GPU, by one command: ``python -m benchmarks.gpu``."""
