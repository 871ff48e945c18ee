"""Builders of `datasets` that read JSON, CSV, TSV and text files without guessing at types from the looks of a text.

`datasets` finds the files and splits, keeps the cache and streams; these replace its readers, which make numbers and
dates of texts.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, cast

import datasets
import pandas as pd
import pyarrow as pa
from datasets import ArrowBasedBuilder, DatasetBuilder, DatasetInfo, Features, SplitGenerator, Value
from datasets.builder import Key
from datasets.iterable_dataset import ExamplesIterable
from datasets.load import configure_builder_class
from datasets.packaged_modules.csv.csv import CsvConfig
from datasets.packaged_modules.json.json import JsonConfig
from datasets.packaged_modules.text.text import Text, TextConfig
from datasets.table import table_cast
from pandas.errors import ParserError

from llm_jepa.data.cache_key import PACKAGE, sources_digest
from llm_jepa.data.json_lines import Row, read_rows
from llm_jepa.data.json_types import ColumnType, features_of, table_of, widen_types, with_all_fields
from llm_jepa.data.source import QUOTING
from llm_jepa.files.text_lines import UnreadableLineError, decoded_lines, is_packed, open_unpacked, unpacking_explained

BATCH_CHARACTERS = 10_000_000
BATCH_ROWS = 10_000
"""Largest table that is built at once."""
READERS_VERSION = sources_digest(
    [*(PACKAGE / "data" / f"{name}.py" for name in ("text_builders", "source", "json_lines", "json_types"))],
    {"datasets": datasets.__version__},
)
"""A part of the cache's key."""


def with_exact_reader(found: DatasetBuilder) -> DatasetBuilder:
    """The builder for the same files and configuration that reads texts as they are; `found` for other formats."""
    reader = _reader(found.config)
    if reader is None:
        return found
    configured = configure_builder_class(reader, [found.config], found.config.name, found.dataset_name)
    return configured(
        cache_dir=found._cache_dir_root,
        dataset_name=found.dataset_name,
        config_name=found.config.name,
        config_id=found.config_id,
        hash=f"{found.hash}-{READERS_VERSION}",
        base_path=found.base_path,
        token=found.token,
        repo_id=found.repo_id,
        storage_options=found.storage_options,
    )


def _reader(config: datasets.BuilderConfig) -> type[ArrowBasedBuilder] | None:
    if isinstance(config, CsvConfig):
        return CsvTexts
    if isinstance(config, TextConfig):
        return TextLines
    return JsonRows if isinstance(config, JsonConfig) and config.field is None else None


class _FilesBuilder(ArrowBasedBuilder):
    """Finds the files of each split. The modules of builders have an `open` that also reads from the Hub."""

    def _info(self) -> DatasetInfo:
        return DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        dl_manager.download_config.extract_on_the_fly = True
        downloaded = dl_manager.download(self.config.data_files)
        return [
            SplitGenerator(
                name=split,
                gen_kwargs={
                    "files_iterables": [dl_manager.iter_files(_unarchived(file, dl_manager)) for file in files]
                },
            )
            for split, files in downloaded.items()
        ]

    def _generate_shards(self, files_iterables: list[Any]) -> Iterator[str]:
        for files in files_iterables:
            yield from files


def _unarchived(file: str, dl_manager: Any) -> str:
    return file if "://" not in file and is_packed(file) else dl_manager.extract(file)


def _open(file: str) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(open(file, "rb"))) if "://" in file else open_unpacked(file)


class JsonRows(_FilesBuilder):
    """Rows of JSON. The files are read twice: once for the columns' types. A stream has no types.

    `unreadable` is the error of a line among a stream's first rows, which the stream raises when it comes there.
    """

    BUILDER_CONFIG_CLASS = JsonConfig
    unreadable: UnreadableLineError | None = None

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        splits = super()._split_generators(dl_manager)
        if dl_manager.is_streaming:
            self.info.features = None  # those of an earlier copy on disk
            for split in splits:
                split.gen_kwargs["types"] = self._types_of_first_rows(split.gen_kwargs["files_iterables"])
            return splits
        types: dict[str, ColumnType] = {}
        for split in splits:
            for _, row in _rows_of(split.gen_kwargs["files_iterables"]):
                widen_types(types, row)
        self.info.features = features_of(types)
        return splits

    def _types_of_first_rows(self, files_iterables: list[Any]) -> dict[str, ColumnType]:
        """The types of a stream's first rows, which say which columns every row has."""
        types: dict[str, ColumnType] = {}
        num_characters = 0
        try:
            for row_characters, row in islice(_rows_of(files_iterables), BATCH_ROWS):
                widen_types(types, row)
                num_characters += row_characters
                if num_characters >= BATCH_CHARACTERS:
                    break
        except UnreadableLineError as error:
            self.unreadable = error
        return types

    def _generate_tables(self, files_iterables: list[Any]) -> Iterator[tuple[Key, pa.Table]]:
        for shard, files in enumerate(files_iterables):
            for number, rows in enumerate(_batches(_rows_of([files]))):
                yield Key(shard, number), table_of(rows, self.info.features)

    def _generate_examples(
        self, files_iterables: list[Any], types: dict[str, ColumnType]
    ) -> Iterator[tuple[Key, Row]]:
        for shard, files in enumerate(files_iterables):
            for number, (_, row) in enumerate(_rows_of([files])):
                yield Key(shard, number), with_all_fields(row, types)

    def _get_examples_iterable_for_split(self, split_generator: SplitGenerator) -> ExamplesIterable:
        return ExamplesIterable(self._generate_examples, split_generator.gen_kwargs)


def _rows_of(files_iterables: list[Any]) -> Iterator[tuple[int, Row]]:
    for files in files_iterables:
        for file in files:
            with _open(file) as opened:
                yield from read_rows(decoded_lines(opened, file), file)


def _batches(rows: Iterator[tuple[int, Row]]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    batch_characters = 0
    for num_characters, row in rows:
        batch.append(row)
        batch_characters += num_characters
        if batch_characters >= BATCH_CHARACTERS or len(batch) == BATCH_ROWS:
            yield batch
            batch, batch_characters = [], 0
    if batch:
        yield batch


class CsvTexts(_FilesBuilder):
    """Rows of a table, every field as its text. An empty field is null. Fields between tabs have no quotes.

    The columns are those of all files; a row has null in one that its file lacks. A stream does not know them.
    """

    BUILDER_CONFIG_CLASS = CsvConfig

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        splits = super()._split_generators(dl_manager)
        if dl_manager.is_streaming:
            self.info.features = None  # those of an earlier copy on disk
            return splits
        files = [file for split in splits for files in split.gen_kwargs["files_iterables"] for file in files]
        columns = (str(name) for file in files for name in next(self._frames(file, chunksize=1)).columns)
        self.info.features = Features({name: Value("string") for name in columns})
        return splits

    def _generate_tables(self, files_iterables: list[Any]) -> Iterator[tuple[Key, pa.Table]]:
        for shard, files in enumerate(files_iterables):
            for file in files:
                for number, frame in enumerate(self._frames(file)):
                    table, features = _texts(frame, file, self.config.sep), self.info.features
                    yield Key(shard, number), table if features is None else table_cast(table, features.arrow_schema)

    def _frames(self, file: str, **options: Any) -> Iterator[pd.DataFrame]:
        options |= {"dtype": str, "keep_default_na": False, "na_values": [""], "iterator": True}
        if self.config.sep == "\t" and self.config.quoting == csv.QUOTE_MINIMAL:
            options |= {"quoting": QUOTING["\t"]}
        with _open(file) as opened, unpacking_explained(file), _parsing_explained(file, self.config.sep):
            yield from pd.read_csv(opened, **self.config.pd_read_csv_kwargs | options)


@contextmanager
def _parsing_explained(file: str, sep: str) -> Iterator[None]:
    """Raise UnreadableLineError, with the file and the remedy, in place of the error of pandas."""
    try:
        yield
    except ParserError as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UnreadableLineError(f"`{file}` cannot be read: {reason}. {_remedy(sep)}.") from error


def _remedy(sep: str) -> str:
    if sep == "\t":
        return "Write fields that contain tabs or line ends as CSV or JSONL; a TSV has no quotes"
    return "Put a field that contains a separator between double quotes"


def _texts(frame: pd.DataFrame, file: str, sep: str) -> pa.Table:
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first fields of such rows as an index
        raise UnreadableLineError(
            f"The rows of `{file}` have more fields than its header has names. {_remedy(sep)}, or name every field."
        )
    quoted = next(_quoted_as_in_csv(frame), None) if sep == "\t" else None
    if quoted is not None:
        raise UnreadableLineError(
            f"`{file}` has the field {quoted:.60}, which is quoted as in CSV; a TSV has no quotes. "
            "`pandas.read_csv(FILE, sep='\\t', dtype=str, keep_default_na=False).to_csv(NEW, index=False)` writes a "
            "`.csv`."
        )
    schema = pa.schema([(str(name), pa.string()) for name in frame.columns])
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False)


def _quoted_as_in_csv(frame: pd.DataFrame) -> Iterator[str]:
    """Names of columns between quotes, and fields between quotes that have all their own doubled."""
    yield from filter(_is_between_quotes, map(str, frame.columns))
    for field in frame.to_numpy().flat:
        if isinstance(field, str) and _is_between_quotes(field):
            text = field[1:-1]
            if '""' in text and '"' not in text.replace('""', ""):
                yield field


def _is_between_quotes(text: str) -> bool:
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


BYTE_ORDER_MARK = "\ufeff"


class TextLines(Text):
    """Rows of plain text, without the blank lines and a file's byte order mark."""

    def _generate_tables(self, base_files: list[str], files_iterables: list[Any]) -> Iterator[tuple[Key, pa.Table]]:
        for key, table in super()._generate_tables(base_files, files_iterables):
            texts = [text.removeprefix(BYTE_ORDER_MARK) for text in table.column(0).to_pylist()]
            kept = pa.array([text for text in texts if text.strip()], table.schema.field(0).type)
            yield key, pa.Table.from_arrays([kept], schema=table.schema)
