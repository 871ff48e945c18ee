"""How what the model writes is scored."""

from dataclasses import dataclass, field

from llm_jepa.scoring.extraction import Extract
from llm_jepa.scoring.tasks import Task


@dataclass
class EvaluationOptions:
    """The task, and what its scores read of a row."""

    task: Task = field(
        default="text",
        metadata={
            "help": "How `llm-jepa eval` and `compare` score what the model writes: by its text alone, as a regex "
            "(language equality), as a problem's final number (`math`), as a short answer (`qa`), as SQL (execution), "
            "by the likelihood of each `choice`, or as a solution of what the source asks (a `path` in a graph, "
            "`countdown`, a `maze`)."
        },
    )
    extract: Extract = field(
        default="none",
        metadata={
            "help": "What the task's own scores take from the text that the model writes: all of it, or the body of "
            "its first fenced block (`fence`), such as a query in Markdown. `strict` is of the whole text always, and "
            "`strict_extracted` of what is taken."
        },
    )
    database_path: str | None = field(
        default=None,
        metadata={
            "help": "For `task: sql`, the SQLite file of a row, with columns in braces: `databases/{db_id}.sqlite`."
        },
    )
    choices_column: str | None = field(
        default=None,
        metadata={"help": "For `task: choice`, the column with a row's list of choices, one of which is the target."},
    )
