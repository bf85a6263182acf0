"""Tests of the package, of the standard library alone: python -m unittest. What is optional is skipped where it is not there."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import ctnas


def there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


SMALL = {"budget": 20, "init": 10, "per_round": 5, "members": 1, "steps": 20, "iterations": 5}


class Search(unittest.TestCase):
    run_: ctnas.Run

    @classmethod
    def setUpClass(cls) -> None:
        cls.run_ = ctnas.search(space="nasbench101-v4", labels="table:shapes91", progress=False, **SMALL)

    def test_what_it_found(self) -> None:
        run = self.run_
        labels = run.labels
        self.assertEqual(len(labels), 20)
        self.assertEqual(len({label["arch"] for label in labels}), 20)
        best = max(labels, key=lambda label: label["accuracy"])
        self.assertEqual((run.pick.arch, run.pick.accuracy), (best["arch"], best["accuracy"]))
        self.assertTrue(1 <= run.pick.rank <= 91)
        self.assertTrue(any(event["event"] == "round" for event in run.events))
        self.assertIn(run.pick.arch, repr(run))
        self.assertIn("<iframe", run._repr_html_())

    def test_a_folder_is_loaded(self) -> None:
        again = ctnas.Run.load(self.run_.dir)
        self.assertEqual(again.result, self.run_.result)
        with self.assertRaises(FileNotFoundError):
            ctnas.Run.load(self.run_.dir / "none")

    def test_frames(self) -> None:
        with self.assertRaisesRegex(ValueError, "labels, architectures, events"):
            self.run_.frame("none")
        if not there("pandas") and not there("polars"):
            with self.assertRaisesRegex(ImportError, "pandas or polars"):
                self.run_.frame()
            self.skipTest("neither pandas nor polars is here")
        frame = self.run_.frame("labels")
        self.assertEqual(frame["arch"].to_list(), [label["arch"] for label in self.run_.labels])

    def test_network(self) -> None:
        if not there("torch"):
            self.skipTest("torch is not here")
        import torch

        with tempfile.TemporaryDirectory() as folder:
            images, logits = Path(folder, "in"), Path(folder, "out")
            said = ctnas.call("export", str(self.run_.dir), check_input=images, check_output=logits)
            shape = said[0]["input"] if said else [3, 32, 32]
            x = torch.frombuffer(bytearray(images.read_bytes()), dtype=torch.float32).reshape(2, *shape)
            want = torch.frombuffer(bytearray(logits.read_bytes()), dtype=torch.float32).reshape(2, -1)
        with torch.no_grad():
            got = self.run_.pick.network()(x)
        self.assertLess(float((got - want).abs().max() / want.abs().max().clamp(min=1)), 1e-5)


class Others(unittest.TestCase):
    def test_mistakes_are_named(self) -> None:
        with self.assertRaisesRegex(ctnas.CtnasError, "--budget 1: want 2 to") as caught:
            ctnas.search(labels="table:shapes91", budget=1, progress=False)
        self.assertEqual(caught.exception.code, 2)
        with self.assertRaisesRegex(ctnas.CtnasError, "unknown flag: --no-such"):
            ctnas.call("version", no_such=1)

    def test_an_objective(self) -> None:
        asked = []

        def ones(arch: str) -> float:
            asked.append(arch)
            return arch.count("1") / len(arch)

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "run")
            first = ctnas.optimize(ones, space="nasbench101-v4", budget=3, out=out, init=4)
            both = ctnas.optimize(ones, space="nasbench101-v4", budget=6, out=out, init=4, batch=2)
        self.assertEqual((len(first), len(both), len(set(asked)), len(asked)), (3, 6, 6, 6))
        self.assertEqual(both[0][1], max(ones(arch) for arch in asked[:6]))
        self.assertTrue(set(first) <= set(both))

    def test_an_objective_that_fails_loses_nothing(self) -> None:
        calls = []

        def second_fails(arch: str) -> float:
            calls.append(arch)
            if len(calls) == 2:
                raise ZeroDivisionError
            return 0.5

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "run")
            with self.assertRaises(ZeroDivisionError):
                ctnas.optimize(second_fails, space="nasbench101-v4", budget=3, out=out)
            self.assertEqual(len(ctnas.optimize(second_fails, space="nasbench101-v4", budget=3, out=out)), 3)
        self.assertEqual(calls[1], calls[2], "what was suggested and not told of comes again")
        self.assertEqual(len(calls), 4)

    def test_a_comparison(self) -> None:
        c = ctnas.compare(space="nasbench101-v4", labels="table:shapes91", methods=["random", "evolution"], budget=12,
                          seeds=2, progress=False)
        self.assertEqual(set(c.methods), {"random", "evolution"})
        self.assertEqual(len(c.methods["random"]["runs"]), 2)
        self.assertIn("evolution", c._repr_html_())

    def test_the_command(self) -> None:
        said = subprocess.run([sys.executable, "-m", "ctnas", "version"], capture_output=True, text=True, check=True)
        self.assertTrue(said.stdout.startswith("ctnas "))
        self.assertTrue(os.access(ctnas.binary(), os.X_OK))
        self.assertTrue(ctnas.version())


if __name__ == "__main__":
    unittest.main()
