"""Runs: a search, and several methods side by side."""

import html
import importlib.util
import json
import math
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnas._program import call, execute, flags


@dataclass(frozen=True)
class Pick:
    """What a search picked."""

    arch: str
    accuracy: float | None  # 0..1, that chose; of labels of another metric the value
    rank: int | None  # among all architectures of the table, 1 = best
    run: Path

    def network(self, weights: bool = True) -> Any:
        """The network as a torch.nn.Module, which needs torch: with the weights of the folder's supernet where there is one,
        and otherwise those of a random start. weights=False leaves torch's own."""
        with tempfile.TemporaryDirectory() as folder:
            source, values = Path(folder, "network.py"), Path(folder, "network.safetensors")
            # The folder of a search has its pick; that of another run says what to build.
            call("export", str(self.run), module=source, safetensors=values if weights else None)
            spec = importlib.util.spec_from_file_location("ctnas_network", source)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            network = module.Network()
            if weights:
                network.load_state_dict(read_safetensors(values))
        return network.eval()

    def export(self, onnx: str | os.PathLike[str]) -> None:
        """Writes the network as an ONNX file."""
        call("export", str(self.run), onnx=onnx)


class Run:
    """A search that has ended: its folder, result and labels."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.dir = Path(folder)
        with open(self.dir / "result.json", encoding="utf-8") as file:
            self.result: dict[str, Any] = json.load(file)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Run":
        """The run of a folder, whoever has made it."""
        return cls(folder)

    @property
    def pick(self) -> Pick:
        """The architecture that the search found."""
        value = self.result.get("pick_value", self.result.get("pick_accuracy"))
        return Pick(self.result["pick"], value, self.result.get("pick_rank"), self.dir)

    @property
    def labels(self) -> list[dict[str, Any]]:
        """Every label in the order in which they were bought, as in ledger.jsonl."""
        return read_lines(self.dir / "ledger.jsonl", "arch")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What went on, as in log.jsonl."""
        return read_lines(self.dir / "log.jsonl", "event")

    @property
    def architectures(self) -> list[dict[str, Any]]:
        """The architectures that were labelled or ranked best, best first."""
        return list(self.result["architectures"])

    def frame(self, what: str = "labels", library: str | None = None) -> Any:
        """labels, architectures or events as a DataFrame of pandas or polars: of the one that is named, or that is there."""
        rows = {"labels": lambda: self.labels, "architectures": lambda: self.architectures, "events": lambda: self.events}
        if what not in rows:
            raise ValueError(f"{what!r}: want one of {', '.join(rows)}")
        for name in [library] if library else ["pandas", "polars"]:
            if name not in ("pandas", "polars"):
                raise ValueError(f"library {name!r}: want pandas or polars")
            if importlib.util.find_spec(name) is not None:
                return importlib.import_module(name).DataFrame(rows[what]())
        raise ImportError(f"a frame needs {library or 'pandas or polars'}, which is not installed; .labels needs nothing")

    @property
    def report(self) -> Path:
        """The page of the run, a file for a browser."""
        return self.dir / "report.html"

    def __repr__(self) -> str:
        return f"<ctnas.Run {self.dir}: {self.pick.arch}, {shown(self.pick.accuracy)}>"

    def _repr_html_(self) -> str:
        """The whole page, for a notebook."""
        page = html.escape(self.report.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="720" style="border:0"></iframe>'


class Comparison:
    """Methods side by side."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.dir = Path(folder)
        with open(self.dir / "comparison.json", encoding="utf-8") as file:
            self.result: dict[str, Any] = json.load(file)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Comparison":
        """The comparison of a folder."""
        return cls(folder)

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """What each method reached: accuracy, rank, runs and more, by its name."""
        return {method["method"]: method for method in self.result["methods"]}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{shown(m['accuracy']['mean'])}</td>"
            f"<td>{shown(m['rank']['mean'])}</td></tr>"
            for name, m in self.methods.items()
        )
        return f"<table><tr><th>method</th><th>mean accuracy</th><th>mean rank</th></tr>{rows}</table>"


def search(
    *,
    space: str = "nasbench101",
    labels: str,
    budget: int | None = None,
    seed: int = 1,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Searches, as `ctnas search` does: settings are its flags. Without out the run lies in a temporary folder, Run.dir."""
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="ctnas-"), "run")
    given = {"space": space, "labels": labels, "budget": budget, "seed": seed, "out": folder, **settings}
    execute(["search", *flags(given)], progress)
    return Run(folder)


def compare(
    *,
    methods: Sequence[str],
    labels: str,
    space: str = "nasbench101",
    budget: int | None = None,
    seeds: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Runs methods side by side, as `ctnas compare` does: settings are its flags."""
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="ctnas-"), "comparison")
    given = {"space": space, "labels": labels, "methods": list(methods), "budget": budget, "seeds": seeds, "out": folder}
    execute(["compare", *flags({**given, **settings})], progress)
    return Comparison(folder)


def shown(value: float | None) -> str:
    """A number for people; nothing that is not known is a number."""
    return "unknown" if value is None or math.isnan(value) else f"{value:.6g}"


def read_lines(path: Path, key: str) -> list[dict[str, Any]]:
    """The lines of a file of JSON that have a key: the others are about the file itself."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    return [line for line in lines if key in line]


def read_safetensors(path: Path) -> dict[str, Any]:
    """The float32 tensors of a file of safetensors."""
    import torch

    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    tensors = {}
    for name, of in json.loads(content[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        if of["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is of {of['dtype']}, want F32")
        start, end = of["data_offsets"]
        values = torch.frombuffer(bytearray(content[8 + size + start : 8 + size + end]) or bytearray(4), dtype=torch.float32)
        tensors[name] = values[: (end - start) // 4].reshape(of["shape"])
    return tensors
