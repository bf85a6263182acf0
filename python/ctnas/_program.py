"""The program, and how it is called."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any


class CtnasError(RuntimeError):
    """The program failed: its exit code, 2 for a mistake in the arguments, and what it said."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message or f"ctnas ended with {code}")
        self.code = code


def binary() -> str:
    """The path of the program: CTNAS_EXECUTABLE, the one in this package, or the first on PATH."""
    own = os.path.join(os.path.dirname(__file__), "bin", "ctnas")
    for path in (os.environ.get("CTNAS_EXECUTABLE", ""), own, shutil.which("ctnas") or ""):
        if path and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f"there is no program at {own} and none on PATH; set CTNAS_EXECUTABLE to its path")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Flags of the command line: per_round=10 is --per-round=10, lists have commas, None is left out."""
    words = []
    for name, value in settings.items():
        if value is None:
            continue
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (list, tuple)):
            value = ",".join(str(v) for v in value)
        words.append(f"--{name.replace('_', '-')}={value}")
    return words


def execute(words: Sequence[str], progress: bool = False) -> str:
    """Runs the program and returns its standard output. With progress, what it says on the way goes to sys.stderr, which in a
    notebook is the cell's output. Ctrl-C ends it as on the command line: it leaves a checkpoint."""
    said: list[str] = []
    with subprocess.Popen([binary(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        stdout, stderr = process.stdout, process.stderr
        assert stdout is not None and stderr is not None
        out: list[str] = []
        reader = threading.Thread(target=lambda: out.append(stdout.read()))  # neither pipe may fill
        reader.start()
        try:
            for text in stderr:
                said.append(text)
                if progress:
                    print(text, end="", flush=True, file=sys.stderr)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            reader.join()
    if code != 0:
        errors = [text.removeprefix("ctnas: ") for text in said if text.startswith("ctnas: ")]
        raise CtnasError(code, "".join(errors or said).strip())
    return "".join(out)


def call(*words: str, **settings: Any) -> Any:
    """Runs a command with --json and returns its document: call("space", "info", "nasbench101")."""
    return json.loads(execute([*words, *flags(settings), "--json"]))


def version() -> str:
    """The version of the program."""
    return str(call("version")["version"])
