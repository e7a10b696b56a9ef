"""The version of xpnet, which a build reads without importing anything else."""

__version__ = "0.1.0"
