"""`python -m ctnas ARGS` and the command `ctnas` of the package: the program itself."""

import os
import sys

from ctnas._program import binary


def main() -> None:
    program = binary()
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    main()
