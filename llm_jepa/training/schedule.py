"""How many optimizer steps a recipe takes, and how many rows a step has."""

import math

from transformers import TrainingArguments


def planned_steps(num_rows: int, args: TrainingArguments, num_processes: int = 1) -> int:
    """The number of optimizer steps of a recipe's arguments on `num_rows` rows."""
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * _steps_per_epoch(num_rows, args, num_processes))


def rows_per_step(num_rows: int, args: TrainingArguments, num_processes: int = 1) -> float:
    """Mean rows of a step: fewer than batch x accumulation x processes if an epoch ends within a step."""
    batch = args.per_device_train_batch_size * num_processes
    if args.dataloader_drop_last:
        num_rows = max(batch, num_rows // batch * batch)
    return num_rows / _steps_per_epoch(num_rows, args, num_processes)


def _steps_per_epoch(num_rows: int, args: TrainingArguments, num_processes: int) -> int:
    batches = num_rows / args.per_device_train_batch_size / num_processes
    batches_per_epoch = math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)
    return max(1, math.ceil(batches_per_epoch / args.gradient_accumulation_steps))
