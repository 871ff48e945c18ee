"""Prepares NL-RX-TURK: people's descriptions of NL-RX-SYNTH's regexes, split as in the LLM-JEPA reference code.

python data/nl_rx_turk.py --output_dir data/nl_rx_turk [--input_dir DIR]
"""

from llm_jepa.preparers.nl_rx_published import nl_rx_data_set
from llm_jepa.preparers.program import run

DATA_SET = nl_rx_data_set(
    "turk",
    "paraphrased from generated ones by people on Mechanical Turk",
    {
        "train": "61d5d6df65a7a899c6f45948a37729bb84b84b4943750f8fa38c1042250ec664",
        "test": "5cab7cfadd071a15e0956cc32e1d4d1bbe99750868b8f064d55cc569f5aefbd3",
    },
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
