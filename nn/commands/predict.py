"""Say what a model sees in files: the class of each row with its probability, or its values.

A FILE is a picture (PNG, JPEG, BMP, GIF or WebP, of any size), an array (.npy, .npz, IDX, HDF5, zarr, or a folder of
.npy files) or a table of rows without labels (.csv, .csv.gz, .tsv, .parquet); `-` is standard input, which may hold any
of these files. Its first bytes say which it is, not its name.

Rows of more than 256 MiB in .npy files, HDF5, zarr and Parquet are not loaded: they are read as their answers are
computed.

For a model of 28x28 pixels a picture becomes what MNIST's rows are: light ink on dark paper, whichever way round it
was; scaled to fit into 20x20 pixels; its centre of mass in the middle. For other models of pictures it is scaled to
their shape as it is.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..cli.flags import count
from ..cli.kinds import UsageError
from ..data import DataError
from .answers import WRITERS, answers_of
from .console import complain
from .inputs import FITS, Options, centres, parts_of
from .models import add_model, open_model

EXAMPLES = (
    ("python -m nn predict out/ three.png", "the digit in a picture, and its probability"),
    ("python -m nn predict out/ scans/*.jpg --top 3 --json", "three answers for each, as JSON, an object a line"),
    ("python -m nn predict out/ new.csv --csv > answers.csv", "a table of answers for a table of rows"),
    ("cat seven.png | python -m nn predict out/ -", "from standard input"),
)


def arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="pictures, arrays or tables; - is standard input")
    parser.add_argument("--top", type=count, default=1, metavar="N", help="the N likeliest classes (default: 1)")
    parser.add_argument("--probabilities", action="store_true", help="the probability of every class")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="JSON, an object a line")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="a table with a header")
    parser.add_argument(
        "--fit",
        choices=FITS,
        default="auto",
        help="how a picture becomes a row: centre, as MNIST's were made; stretch, as it is; auto: centre for 28x28",
    )
    parser.add_argument("--invert", action="store_true", help="exchange light and dark in pictures, unless centred")
    parser.add_argument(
        "--drop", nargs="+", default=(), metavar="COLUMN", help="columns of a table that are no features; -1: the last"
    )
    parser.add_argument("--batch-size", type=count, default=1024, metavar="N", help="rows at a time (default: 1024)")


def run(options: Namespace) -> int:
    """Answer for each file in its turn. One that cannot be used is told of, and the others are done.

    Returns:
        0, or 2 where a file could not be used.
    """
    if options.files.count("-") > 1:
        raise UsageError("standard input can be read once; name - once")
    model = open_model(options)
    if options.top > 1 and model.task != "classes":
        raise UsageError("--top would do nothing here, as the model tells no classes apart; leave it out")
    if options.probabilities and model.task == "values":
        raise UsageError("--probabilities would do nothing here, as the model gives values; leave it out")
    if options.invert and centres(model, options.fit):
        raise UsageError("--invert would do nothing here, as drawings are read either way round; leave it out")
    write = WRITERS[options.form or "text"]()
    asked = Options(options.fit, options.invert, tuple(options.drop))
    code = 0
    for file in options.files:
        try:
            for part in parts_of(model, file, asked, options.batch_size):
                for answer in answers_of(model, part, file, options.top, options.probabilities, options.batch_size):
                    write(answer)
        except DataError as error:
            complain(error)
            code = 2
    return code
