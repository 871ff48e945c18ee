"""Names the columns that a row's text could be expected to hold, and that no view and no turn reads."""

import logging
from collections.abc import Sequence

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.rows import CHAT_TEMPLATE_COLUMNS, AnyDataset, column_names, has_pairs, is_tokenised, row_maker
from llm_jepa.settings.view_fields import find_fields

CONVENTIONAL_COLUMNS = (
    "system", "system_prompt", "history", "weight", "train", "loss_mask", "image", "images", "videos", "audios",
)  # fmt: skip
"""Columns that other toolkits read beside the turns or the two texts of a row."""
PICTURE_COLUMNS = ("image", "images")
"""Those by which TRL tells the rows of a vision model."""

logger = logging.getLogger(__name__)


def unread_columns(columns: Sequence[str], mapping: ColumnMapping) -> list[str]:
    """The `CONVENTIONAL_COLUMNS` of a data set that a mapping does not read.

    Raises:
        ValueError: The mapping names a column that is not there.
    """
    if mapping.view_columns is not None:
        read = [name for field in find_fields(mapping.view_columns, columns) for name in field.columns]
    else:
        read = row_maker(list(columns), mapping, has_chat_template=True)[1]
    return [name for name in CONVENTIONAL_COLUMNS if name in columns and name not in (*read, *CHAT_TEMPLATE_COLUMNS)]


def without_unread_columns(dataset: AnyDataset, mapping: ColumnMapping, name: str) -> AnyDataset:
    """The rows without what `unread_columns` finds, which is logged; of tokens and plain text, without pictures.

    TRL would take rows with pictures for those of a vision model. `name` is that of the data.

    Raises:
        ValueError: As `unread_columns`.
    """
    columns = column_names(dataset)
    if is_tokenised(dataset) or not has_pairs(dataset, mapping):
        unread = [column for column in PICTURE_COLUMNS if column in columns]
    else:
        unread = unread_columns(columns, mapping)
    if not unread:
        return dataset
    logger.warning("Of the %s data, %s.", name, unread_in_words(unread))
    return dataset.select_columns([column for column in columns if column not in unread])


def unread_in_words(unread: Sequence[str]) -> str:
    """A clause that names unread columns, and the remedy."""
    verb = "is" if len(unread) == 1 else "are"
    return (
        f"`{'`, `'.join(unread)}` {verb} not read; a text that should count goes into `source_column` by a template "
        f"(`{{{{ {unread[0]} }}}} {{{{ question }}}}`), or is a turn of `messages`"
    )
