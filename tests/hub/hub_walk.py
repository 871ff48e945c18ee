"""A script run with HF_ENDPOINT: executes `llm-jepa` commands, then generates with the pulled model."""

import json
import sys

from huggingface_hub import snapshot_download
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_jepa.cli import main
from llm_jepa.evaluation.generation import generate_completions


def generate(repo_id: str, is_adapter: bool, prompt: str) -> str:
    loader = AutoPeftModelForCausalLM if is_adapter else AutoModelForCausalLM
    model, tokenizer = loader.from_pretrained(repo_id), AutoTokenizer.from_pretrained(repo_id)
    chat = [{"role": "user", "content": prompt}]
    return generate_completions(model, tokenizer, [chat], 6, 1)[0].text


def walk(commands: list[list[str]], adapter: str, model: str, prompt: str) -> dict[str, str]:
    for command in commands:
        assert main(command) == 0, command
    return {
        "adapter": generate(adapter, True, prompt),
        "model": generate(model, False, prompt),
        "snapshot": snapshot_download(adapter),
    }


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(walk(**arguments)) + "\n")
