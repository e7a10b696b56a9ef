"""The sizes of the kernels, which their texts have as constants and those who launch them have to know."""

from __future__ import annotations

#: No contraction of a * b + c into one rounding: these kernels wait for memory, not for arithmetic, and so elementwise
#: results agree with the CPU's to the last bit wherever CUDA's exp, log and tanh do.
OPTIONS = ("-std=c++17", "--fmad=false")

#: The most threads of a block, which is the length of the shared arrays of the trees.
MAX_THREADS = 1024
#: A column sum: columns that a block sums, rows that it reads at the same time, rows that each thread has in flight.
TILE, LANES, UNROLL = 32, 32, 4
#: Rows above which a column sum is split over several blocks, and the most blocks that it is split over.
ROWS_OF_BLOCK, MAX_ROW_BLOCKS = 512, 256

#: The most updates that one launch makes.
MOST_UPDATES = 4

#: The head kernel: rows of a block at a time, threads of a product, the most classes; bytes of the matrix, and of those
#: rows' inputs, which it keeps in shared memory.
HEAD_ROWS, HEAD_PARTS, HEAD_COLUMNS = 2, 8, 32
HEAD_MATRIX_BYTES, HEAD_ROWS_BYTES = 24576, 4096
#: The kernel of a network with one hidden layer: the bytes of the second matrix, of the rows' inputs and of the sums of
#: the slices in shared memory, and the widest hidden layer.
SMALL_MATRIX_BYTES, SMALL_INPUT_BYTES, SMALL_SUMS_BYTES, SMALL_WIDTH = 8192, 8192, 16384, 128

#: The kernel of weight gradients: the most of them in a launch, the most rows of a batch, the parts that a sum over
#: them is split into, and the rows and bytes of a row of a tile, which a block computes.
MOST_GRADIENTS, GROUP_ROWS, GROUP_PARTS, GROUP_HEIGHT, GROUP_WIDTH_BYTES = 3, 128, 4, 16, 256

#: Row dtypes that ``take_rows`` scales, and unsigned integers that stand for any dtype of the same size.
SCALED = {
    "uint8": "unsigned char",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
GATHERED = {
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}

#: Activations that no head has: their texts would make compiling it all take twice as long.
WITHOUT_HEAD = frozenset({"gelu", "gelu_tanh", "silu", "softplus", "leaky_relu", "elu"})
