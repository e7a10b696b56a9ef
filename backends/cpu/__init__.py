"""The CPU: NumPy, its BLAS, and loops compiled by Numba."""
