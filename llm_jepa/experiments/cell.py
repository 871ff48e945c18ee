"""The process of one cell of an experiment: `python -m llm_jepa.experiments.cell DIRECTORY`.

Cells cannot affect each other, and a kill costs one cell.
"""

import sys
from pathlib import Path

from llm_jepa.entry import entry_point, imports_uncollected


def main() -> None:
    """Run the cell in the directory named on the command line."""
    with entry_point():
        with imports_uncollected():
            from llm_jepa.experiments.cell_run import run_cell

        run_cell(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
