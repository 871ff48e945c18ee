"""The arguments of every command. Imports nothing heavy, so that help and usage errors come at once.

Choices that belong to a module which needs torch are written out here; a test holds them equal to that module's.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from llm_jepa.cli.argument_types import DTYPES, at_least, checkpoints, json_object
from llm_jepa.cli.inference_arguments import add_decodings, answer, export, generate, latency
from llm_jepa.compute.devices import GPUS
from llm_jepa.models.checkpoint_choice import CHECKPOINTS
from llm_jepa.models.source import KNOWN_ENCODERS, KNOWN_MODEL_IDS
from llm_jepa.options.text_decoder import TextDecoderOptions
from llm_jepa.planning.memory import LAUNCHES
from llm_jepa.settings.checks import REQUIRED
from llm_jepa.settings.listing import options_text
from llm_jepa.settings.reading import RECIPE_SUFFIXES

BACKENDS = ("transformers", "vllm")
REQUIRED_TO_LOOK = tuple(key for key in REQUIRED if key != "output_dir")
"""Keys without which a recipe cannot be inspected; nothing is written."""
HUB_ROWS = 10_000
"""How many rows of a data set `inspect` reads over a network, unless told otherwise."""
PROBED_ROWS = 500
MIN_PROBED_ROWS = 4
SAMPLE = "a sample that is always the same; of a stream the first"
HELP_ALL = "--help-all"
GAIN = 0.01
"""The share of requests that a point of accuracy spares."""


def train(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa train RECIPE [--key value ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Every key of the recipe can be overridden: --learning_rate 1e-4 --report_to trackio.\n\n"
        f"keys of this toolkit:\n{options_text('llm_jepa')}\n\n"
        f"The other keys are TRL's (ScriptArguments, ModelConfig, SFTConfig): `llm-jepa train {HELP_ALL}` lists them."
    )
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file of settings")
    parser.add_argument(HELP_ALL, action=_HelpAll, help="show TRL's keys too, and exit")


def train_decoder(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa train-decoder RUN [options] [--key value ...]"
    parser.epilog = "Every other key of the run's recipe can be overridden: --dataset_test_split 'test[:500]'."
    parser.add_argument("recipe", metavar="RUN", help="directory of a run of VL-JEPA, or the recipe that made one")
    for option in fields(TextDecoderOptions):
        kind = str if option.default is None else type(option.default)
        shown = "" if option.default is None else f" (default: {option.default:g})"
        text = option.metadata["help"].rstrip(".") + shown
        parser.add_argument(f"--{option.name}", type=kind, default=option.default, metavar="VALUE", help=text)
    parser.add_argument(
        "--max_rows", type=at_least(1), metavar="N", help=f"score N held-out rows, {SAMPLE} (default: all)"
    )


def inspect(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "llm-jepa inspect RECIPE [--rows N] [--html PATH] [--runs DIR ...] [--key value ...]\n"
        "       llm-jepa inspect DATA [--rows N] [--max_rows N] [--dataset_config NAME] [--dataset_train_split NAME]"
    )
    parser.add_argument(
        "recipe", metavar="RECIPE|DATA", help="YAML file of settings, or a Hub id, a file or a directory of data"
    )
    parser.add_argument(
        "--rows", type=at_least(1), default=2, help="how many rows, or values of a field, to show (default: 2)"
    )
    parser.add_argument(
        "--html", type=Path, metavar="PATH", help="of a VL-JEPA recipe: write a page with its pictures"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="of a VL-JEPA recipe: show its test rows beside what these runs answered, as `llm-jepa eval` wrote it",
    )
    parser.add_argument("--max_rows", type=int, help=f"rows of DATA to read (default: all; of the Hub {HUB_ROWS:,})")


def plan(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa plan RECIPE [options] [--key value ...]"
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file of settings")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--gpu", metavar="NAME", help=f"for which memory and hours are planned: {', '.join(GPUS)}")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="how many of them (default: 1)")
    parser.add_argument("--launch", choices=LAUNCHES, help="file of recipes/accelerate (default: single or multi-gpu)")
    parser.add_argument("--price_per_hour", type=float, metavar="P", help="of one GPU")
    parser.add_argument("--request_seconds", type=float, metavar="S", help="time of a GPU that a request takes")
    parser.add_argument(
        "--gain",
        type=float,
        metavar="SHARE",
        help=f"share of requests that need not be asked again (default: {GAIN}, a point of accuracy)",
    )
    parser.add_argument(
        "--latency",
        type=Path,
        metavar="FILE",
        help="of `llm-jepa latency`: after how many requests the seconds saved repay the training's extra ones",
    )
    parser.add_argument(
        "--serving_price_per_hour",
        type=float,
        metavar="P",
        help="of the device of --latency, if it is another than that of training",
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="train the first steps on this machine and go by their time"
    )


def fetch_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join((*KNOWN_MODEL_IDS, *KNOWN_ENCODERS))}")
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="where to put it (default: in $LLM_JEPA_CACHE, else in ~/.cache/llm_jepa)",
    )


def evaluate(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa eval RECIPE|RUN|ADAPTER|MODEL [options] [--key value ...]"
    parser.epilog = "Every key of the recipe can be overridden: --dataset_test_split 'test[:500]'."
    parser.add_argument(
        "recipe", metavar="RECIPE", help="recipe; or a run's, adapter's or model's directory or Hub id"
    )
    parser.add_argument(
        "--checkpoints",
        type=checkpoints,
        metavar="CHECKPOINT[,CHECKPOINT]",
        help=f"what to evaluate: {','.join(CHECKPOINTS)} (default: all)",
    )
    parser.add_argument(
        "--max_rows", type=at_least(1), metavar="N", help=f"evaluate N held-out rows, {SAMPLE} (default: all)"
    )
    parser.add_argument(
        "--max_new_tokens", type=at_least(1), default=128, metavar="N", help="limit per row (default: 128)"
    )
    parser.add_argument(
        "--eval_batch_size", type=at_least(1), default=16, metavar="N", help="rows at once (default: 16)"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="transformers", help="what generates")
    parser.add_argument(
        "--vllm_options", type=json_object, metavar="JSON", help="for vllm.LLM: '{\"tensor_parallel_size\": 2}'"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="where to write predictions-*.jsonl and scores-*.json (default: output_dir, if it is here)",
    )
    add_decodings(parser)


def compare(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "An interrupted comparison resumes where it stopped; finished cells are kept."
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", type=Path, help="YAML file of arms, seeds and a base recipe"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="cells at a time, each on one GPU (default: one per GPU; one without)"
    )
    parser.add_argument("--report_only", action="store_true", help="run nothing; report what is finished")


def probe(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa probe RECIPE [options] [--key value ...]"
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file of settings")
    parser.add_argument(
        "--checkpoints",
        type=checkpoints,
        metavar="CHECKPOINT[,CHECKPOINT]",
        help=f"what to look at: {','.join(CHECKPOINTS)} (default: all)",
    )
    parser.add_argument(
        "--max_rows",
        type=at_least(MIN_PROBED_ROWS),
        default=PROBED_ROWS,
        metavar="N",
        help=f"held-out rows, {SAMPLE} (default: {PROBED_ROWS})",
    )
    parser.add_argument(
        "--eval_batch_size", type=at_least(1), default=16, metavar="N", help="rows at once (default: 16)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="where to write probe.json and probe.svg (default: the run)"
    )


def merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="RUN|ADAPTER", help="directory of a run or an adapter, or its Hub id")
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    parser.add_argument("--dtype", choices=DTYPES, help="of the merged weights (default: the recipe's)")
    parser.add_argument(
        "--trust_remote_code",
        action="store_true",
        help="run code that comes with the base, whatever the recipe says",
    )
    _without_predictor(parser)


def push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="RUN|ADAPTER|MODEL", help="directory of what is published")
    parser.add_argument("--repo_id", required=True, metavar="USER/NAME", help="where to publish it")
    parser.add_argument("--public", action="store_true", help="for everybody to see")
    parser.add_argument(
        "--base_model",
        metavar="HUB_ID",
        help="of an adapter whose base was a directory: where others find it",
    )
    parser.add_argument("--dataset_id", metavar="HUB_ID", help="of data that were a file: where others find them")
    _without_predictor(parser)


def _without_predictor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--without_predictor",
        action="store_true",
        help="leave out latent_predictor/, which ranking answers and drafting need",
    )


def names_a_recipe(args: argparse.Namespace) -> bool:
    """Whether the argument RECIPE is one; `inspect`, `eval` and `probe` take other things too."""
    return args.command in ("train", "plan") or Path(args.recipe).suffix in RECIPE_SUFFIXES


class _HelpAll(argparse.Action):
    """Prints the help with TRL's keys at its end."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.print_help()
        print(f"\nkeys of TRL and transformers:\n{options_text('trl')}")
        parser.exit()


class Version(argparse.Action):
    """Prints the version; reading it takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import importlib.metadata

        print(f"llm-jepa {importlib.metadata.version('llm-jepa')}")
        parser.exit()


ADD_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "train": train,
    "train-decoder": train_decoder,
    "inspect": inspect,
    "plan": plan,
    "fetch-model": fetch_model,
    "eval": evaluate,
    "compare": compare,
    "probe": probe,
    "answer": answer,
    "generate": generate,
    "latency": latency,
    "export": export,
    "merge": merge,
    "push": push,
    "env": lambda parser: None,
}
"""Command -> what adds its arguments."""
