"""Cuts a causal LM down to some of its layers, to train a smaller model from it.

python recipes/smaller/cut_model.py --model smollm2-135m-instruct --num_layers 12 --output_dir outputs/models/cut-12
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llm_jepa.entry import cleaned_up_at_sigterm
from llm_jepa.files.staged import staged_directory
from llm_jepa.models.cutting import cut_model


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True, help="a known model, a directory or a Hub id")
    parser.add_argument("--num_layers", type=int, required=True, help="kept: the first, the last, even distances")
    parser.add_argument("--output_dir", type=Path, required=True, help="a new or empty directory")
    options = parser.parse_args(arguments)
    try:
        with cleaned_up_at_sigterm(), staged_directory(options.output_dir) as staging:
            layers, num_parameters = cut_model(options.model, options.num_layers, staging)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.output_dir}: layers {', '.join(map(str, layers))}; {num_parameters:,} parameters")


if __name__ == "__main__":
    main()
