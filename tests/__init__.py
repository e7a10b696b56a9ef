"""The tests of xpnet; the folders are those of the code.

Imported before what loads NumPy, so this is where the suite holds the BLAS to one thread: beside other load, two
threads that wait for each other take many times as long as one. Worker processes and subprocesses inherit it.
"""

import os
import sys

from threadpoolctl import threadpool_limits

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
if "numpy" in sys.modules:  # a plugin of pytest has loaded it, as that of zarr does
    threadpool_limits(1)
