"""How many optimizer steps a recipe takes."""

import math

from llm_jepa.recipe import Recipe


def planned_steps(num_rows: int, recipe: Recipe, num_processes: int = 1) -> int:
    """Optimizer steps that a recipe takes on so many rows."""
    args = recipe.training
    if args.max_steps > 0:
        return args.max_steps
    batches = num_rows / args.per_device_train_batch_size / num_processes
    batches_per_epoch = math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)
    steps_per_epoch = max(1, math.ceil(batches_per_epoch / args.gradient_accumulation_steps))
    return math.ceil(args.num_train_epochs * steps_per_epoch)
