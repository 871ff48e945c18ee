# /// script
# requires-python = ">=3.11"
# dependencies = ["llm-jepa"]
# ///
"""Trains a LoRA adapter on a data set of the Hub: one file that brings its environment. See examples/README.md.

    uv run --find-links dist examples/uv_train.py --dataset openai/gsm8k --dataset_config main \
        --source_column question --target_column answer
"""

import argparse

from datasets import load_dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="Hub id or directory")
    parser.add_argument("--dataset", required=True, help="Hub id or directory")
    parser.add_argument("--dataset_config", help="one of the data set's configurations")
    parser.add_argument("--source_column", required=True)
    parser.add_argument("--target_column", required=True)
    parser.add_argument("--output_dir", default="outputs/uv-train")
    parser.add_argument("--max_steps", type=int, default=-1, help="default: the whole data set once")
    parser.add_argument("--hub_model_id", help="publish the adapter there, privately; needs HF_TOKEN")
    args = parser.parse_args()

    config = JEPAConfig(
        args.output_dir,
        source_column=args.source_column,
        target_column=args.target_column,
        jepa_source_view="prefix",
        jepa_target="stop_gradient",
        learning_rate=1e-3,
        num_train_epochs=1,
        max_steps=args.max_steps,
        per_device_train_batch_size=8,
        hub_model_id=args.hub_model_id,
        report_to="none",
    )
    trainer = JEPATrainer(
        model=args.model,
        args=config,
        train_dataset=load_dataset(args.dataset, args.dataset_config, split="train"),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model()
    if args.hub_model_id is not None:
        trainer.push_to_hub(dataset_name=args.dataset)


if __name__ == "__main__":
    main()
