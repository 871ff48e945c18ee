"""Makes a small Llama and a tokenizer of whole words for a prepared data set, to train from scratch.

python recipes/planning/word_model.py --data_dir data/path_star --output_dir outputs/models/path_star
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llm_jepa.entry import cleaned_up_at_sigterm
from llm_jepa.files.staged import staged_directory
from llm_jepa.preparers.word_model import words_of, write_word_model


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="the directory of the data set's splits")
    parser.add_argument("--output_dir", type=Path, required=True, help="a new or empty directory")
    parser.add_argument("--num_layers", type=int, default=4, help="default 4")
    parser.add_argument("--width", type=int, default=128, help="size of the hidden states (default 128)")
    options = parser.parse_args(arguments)
    try:
        with cleaned_up_at_sigterm(), staged_directory(options.output_dir) as staging:
            words = words_of(options.data_dir)
            write_word_model(staging, words, options.num_layers, options.width)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.output_dir}: {options.num_layers} layers, width {options.width}, {len(words)} words")


if __name__ == "__main__":
    main()
