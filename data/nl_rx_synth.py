"""Prepares NL-RX-SYNTH: generated descriptions and their regexes, split as in the LLM-JEPA reference code.

python data/nl_rx_synth.py --output_dir data/nl_rx_synth [--input_dir DIR]
"""

from llm_jepa.preparers.nl_rx_published import nl_rx_data_set
from llm_jepa.preparers.program import run

DATA_SET = nl_rx_data_set(
    "synth",
    "generated with the regexes by one grammar",
    {
        "train": "ca959f108fb5a9c363910bca46cd9de69ead3bac016ed2564c74be39ba634e46",
        "test": "acfce67c9284bb97dc0b89ad9412b00f6464faf2dfbd2581dd4930140716e45d",
    },
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
