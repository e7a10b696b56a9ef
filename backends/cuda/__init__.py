"""The GPU: CuPy, kernels of our own, cuBLAS, and steps captured as CUDA graphs."""
