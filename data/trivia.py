"""Prepares OpenTriviaQA: questions of general knowledge, each with four choices.

python data/trivia.py --output_dir data/trivia [--input_dir DIR]
"""

import argparse
import re
from collections.abc import Iterator

from llm_jepa.preparers.data_set import DataSet, Inputs, add_share_arguments, split_at_random
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import LeftOut, Row, Rows, Splits
from llm_jepa.preparers.upstream import Input, UpstreamFile

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/uberspot/OpenTriviaQA/dd31530bfbb19f9505b160b89c9df4b1127e3c70/categories"
)
NUM_CHOICES = 4
QUESTION_MARK, ANSWER_MARK = "#Q ", "^ "
CHOICE = re.compile(r"[A-Z] (.*)")

FILES = {
    "animals": "1c38f40ac5ffd90c17f57ba5573d56c815e4ba7fe2d4dea90277d21ab1f3b699",
    "brain-teasers": "6833260f3feb902548d47f3fceea1a06fc459317f97086a4dec96a41df34b6f0",
    "celebrities": "be17b9579099558e5d466541742acaac4225a201c831a66ac0de1d1bded19063",
    "entertainment": "b0bfcbab721d698df978a192c1f9de2425305ff2c5e4d2ea33e38bd8edb9fad5",
    "for-kids": "758b826f01ba053790e1cd684bd5e24944b75eb127bc408e791965dc994a8b97",
    "general": "22cabfcd29582b16d0ebf21ecc4f0cf5a394b53d8e57b9b0005d0d0bcdba56e7",
    "geography": "aab2381417cb2238b35677a0708113997f3dd644f4ebe61fe13ae75f05e220d8",
    "history": "4a2f08736c53ca86ae2a218c6e931bb81a4e18de02de8117f4bb8ab912772b12",
    "hobbies": "71c369200371181d3848a9f7a442fdc5c3036b51edf7105dbb7940f87d881a38",
    "humanities": "f31ea36da7e292e79bac8b8189390dd00b009cfac2595c8218593932c5ae1e9b",
    "literature": "0875cf53176e83ee1154917d6b46ce184887639df8e4901b74b7edda4255fa16",
    "movies": "723f1a7fe171c830beea7e0bd66b3125b2c3d789f12efa987d2a85db28618b9f",
    "music": "cb6d62ed51e3cf2dbba5e281ceaeb4bb97903e740ba220575117b484dca50dba",
    "newest": "040fa7ae74a5280eabc376a7376ea5aae69d77c971e92f193b8b3e9790f3f74a",
    "people": "5e56740d7260a9d5b4212c8788b794d27445372b5653daa8c3cd5ea1b04a521e",
    "rated": "805325dc7d8c5bf925bcd42af31aabc45d27775528beecd5a8ee7eb327d58288",
    "religion-faith": "9a5aceaf18ad7767364a55b7cd1dd7228ccaa7e1344bd38422722e81afeba2bf",
    "science-technology": "7a68b095da5c58a9f472170950406ebeb545e9bc0f17c8befdf185c558277949",
    "sports": "345990a8ca9dbf3e759e858a9afda00440f3d4ecb9e82a53de71fa5eb19e6b03",
    "television": "fe9778fef5af477bd481ba72e49f9960937741a6b2f0de9303097cc23621edaa",
    "video-games": "ee7b21abfc6d55c93196d431604297aed8cd0b36c00bc87ff6edf62cf1156e26",
    "world": "d5339cb3a13b4ce179a8d6c8e952d3a54c7f1eaf3337b21c1327d67b3079f683",
}
"""Category -> the SHA-256 of its file."""


def questions(category: Input) -> Iterator[Row | LeftOut]:
    """The questions of a file, in which one reads

        #Q It is the longest river in the world
        ^ The Nile
        A The Thames
        B The Nile

    A question may have several lines. A byte that is not UTF-8 leaves its question out.
    """
    text = category.path.read_bytes().decode("utf-8", errors="replace")
    for block in re.split(rf"^{re.escape(QUESTION_MARK)}", text, flags=re.MULTILINE)[1:]:
        yield question(block)


def question(block: str) -> Row | LeftOut:
    """The row of one question."""
    if "\N{REPLACEMENT CHARACTER}" in block:
        return LeftOut("not in UTF-8")
    asked, _, rest = block.partition(f"\n{ANSWER_MARK}")
    answer, *lines = rest.splitlines() or [""]
    choices = [match[1].strip() for line in lines if (match := CHOICE.fullmatch(line.rstrip()))]
    if len(choices) != NUM_CHOICES or len(set(choices)) != NUM_CHOICES or "" in choices:
        return LeftOut(f"without {NUM_CHOICES} different choices")
    if answer.strip() not in choices:
        return LeftOut("whose answer is none of the choices")
    words = " ".join(asked.split())
    if not words:
        return LeftOut("without a question")
    source = "\n".join([words, *(f"- {choice}" for choice in choices)])
    return {"source": source, "target": answer.strip(), "choices": choices, "question": words}


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def rows() -> Rows:
        for category in inputs.values():
            yield from questions(category)

    return split_at_random(rows, options, key=lambda row: row["question"])


DATA_SET = DataSet(
    name="trivia",
    title="OpenTriviaQA",
    description="Questions of general knowledge in English, each with four choices.",
    source="github.com/uberspot/OpenTriviaQA, all categories",
    licence="cc-by-sa-4.0",
    licence_text="CC BY-SA 4.0: name the source, say what was changed, and share alike.",
    columns={
        "source": "the question and its choices, a line each",
        "target": "the correct choice",
        "choices": "the four choices, a list",
        "question": "the question alone",
    },
    files={
        name: UpstreamFile(name, f"{PUBLISHED_AT}/{name}", f"sha256:{checksum}") for name, checksum in FILES.items()
    },
    make_splits=make_splits,
    overlap=lambda row: [row["question"]],
    overlap_text="a question",
    task_categories=("multiple-choice",),
    add_arguments=add_share_arguments,
    settings=("test_share", "validation_share"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
