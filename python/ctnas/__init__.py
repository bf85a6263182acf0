"""Neural architecture search by comparison: the program ctnas for Python.

    import ctnas

    run = ctnas.search(space="nasbench101-v4", labels="table:shapes91", budget=30, init=10, per_round=10)
    run.pick.arch, run.pick.accuracy
    run.frame("labels")                       # every label, as a table of pandas or polars
    network = run.pick.network()              # a torch.nn.Module, with weights where there are some

The program does the work and comes with the package; its folders are those of the command line, so that what one of
them has begun the other can look at and go on with. Settings are the flags of the command line (`ctnas search --help`)
with `_` for `-`.
"""

from ctnas._program import CtnasError, binary, call, version
from ctnas._objective import optimize
from ctnas._run import Comparison, Pick, Run, compare, search

__all__ = [
    "Comparison",
    "CtnasError",
    "Pick",
    "Run",
    "binary",
    "call",
    "compare",
    "optimize",
    "search",
    "version",
]
