"""Objective functions in Python: the program suggests, Python measures."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ctnas._program import call
from ctnas._run import read_lines


def optimize(
    objective: Callable[[str], float | Mapping[str, float]],
    *,
    space: str,
    budget: int,
    out: str | os.PathLike[str] | None = None,
    batch: int = 1,
    metric: str = "accuracy",
    **settings: Any,
) -> list[tuple[str, float]]:
    """Calls objective(arch) for `budget` architectures, of which the program suggests `batch` at a time after it has been told
    what the earlier ones came to, and returns (arch, value), best first.

    objective returns the value of the metric, an accuracy from 0 to 1 where nothing else is said, or several numbers by
    name. An exception that it raises ends the search; what was measured stays in the folder, and a call with the same
    `out` goes on with it. metric="perplexity:minimize" says what is measured instead of an accuracy. settings are the flags
    of `ctnas suggest`: init, max_madds and others.
    """
    folder = str(out) if out is not None else str(Path(tempfile.mkdtemp(prefix="ctnas-"), "run"))
    name, _, direction = metric.partition(":")
    measured: dict[str, float] = {}
    if not Path(folder, "config.yaml").exists():  # afterwards the folder says these
        call("suggest", folder, pending=True, space=space, metric=metric if direction else None, **settings)
    ledger = Path(folder, "ledger.jsonl")
    if ledger.exists():
        for line in read_lines(ledger, "arch"):
            value = line.get("value", line.get("accuracy"))
            if value is not None:
                measured[line["arch"]] = value
    while len(measured) < budget:
        waiting = call("suggest", folder, pending=True)["suggestions"]
        if not waiting:
            waiting = call("suggest", folder, count=min(batch, budget - len(measured)))["suggestions"]
        if not waiting:
            break  # the space has no more
        for suggestion in waiting[: budget - len(measured)]:
            arch = suggestion["arch"]
            result = objective(arch)
            values = dict(result) if isinstance(result, Mapping) else {name: float(result)}
            call("tell", folder, arch, *(f"{key}={float(value)!r}" for key, value in values.items()))
            measured[arch] = float(values[name])
    smaller = direction.startswith("minimize")
    return sorted(measured.items(), key=lambda item: item[1], reverse=not smaller)
