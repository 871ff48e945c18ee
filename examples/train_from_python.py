"""Trains a LoRA adapter from Python, with the objective in its cheap form.

python data/nl_rx.py --output_dir data/nl_rx
python examples/train_from_python.py --max_steps 150
"""

import argparse

from datasets import load_dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="Hub id or directory")
    parser.add_argument("--dataset", default="data/nl_rx", help="with columns `source` and `target`")
    parser.add_argument("--output_dir", default="outputs/from-python")
    parser.add_argument("--max_steps", type=int, default=-1, help="default: the whole data set once")
    args = parser.parse_args()

    config = JEPAConfig(
        args.output_dir,
        source_column="source",
        target_column="target",
        system_prompt="Convert natural language to regular expression.",
        jepa_source_view="prefix",
        jepa_target="stop_gradient",
        learning_rate=1e-3,
        num_train_epochs=1,
        max_steps=args.max_steps,
        per_device_train_batch_size=8,
        report_to="none",
    )
    trainer = JEPATrainer(
        model=args.model,
        args=config,
        train_dataset=load_dataset(args.dataset, split="train"),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
