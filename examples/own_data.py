"""From pairs in memory to answers of the tuned model: every weight trained, nothing but Python.

python examples/own_data.py
"""

import argparse

from datasets import Dataset

from llm_jepa import JEPAConfig, JEPATrainer

UNITS = {"metre": "m", "second": "s", "kilogram": "kg", "ampere": "A", "kelvin": "K"}


def my_pairs() -> list[dict[str, str]]:
    """Put your own in its place: a list of rows with two columns, or several, or chat messages."""
    return [
        {"question": f"Write {number} {name}s with the unit's symbol.", "answer": f"{number} {symbol}"}
        for number in range(2, 42)
        for name, symbol in UNITS.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="Hub id or directory")
    parser.add_argument("--output_dir", default="outputs/own-data")
    parser.add_argument("--max_steps", type=int, default=-1, help="default: the rows once")
    args = parser.parse_args()

    rows = Dataset.from_list(my_pairs()).train_test_split(test_size=8, seed=0)
    config = JEPAConfig(
        args.output_dir,
        source_column="question",
        target_column="answer",
        jepa_source_view="prefix",
        jepa_target="stop_gradient",
        learning_rate=2e-4,
        num_train_epochs=1,
        max_steps=args.max_steps,
        per_device_train_batch_size=8,
        report_to="none",
    )
    trainer = JEPATrainer(model=args.model, args=config, train_dataset=rows["train"])
    trainer.train()
    trainer.save_model()

    model, tokenizer = trainer.model.eval(), trainer.processing_class
    for row in rows["test"]:
        chat = [{"role": "user", "content": row["question"]}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        prompt = prompt.to(model.device)
        tokens = model.generate(**prompt, max_new_tokens=16, do_sample=False)
        answer = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        print(f"{row['question']}  expected: {row['answer']}  answered: {answer}")


if __name__ == "__main__":
    main()
