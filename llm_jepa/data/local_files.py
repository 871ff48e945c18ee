"""The files of a data set on this machine: a JSON Lines, JSON, CSV, TSV, Parquet or text file, or a directory."""

from pathlib import Path

LOADERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text",
}  # fmt: skip
"""File name suffix -> loader of `datasets`. A local file is one split, `train`. Each line of a `.txt` is a row."""


def local_files(name: str) -> list[Path]:
    """The data files that a `dataset_name` stands for; an empty list for a Hub id.

    Raises:
        ValueError: There is no such file or directory, it holds no data file, or a data file is empty.
    """
    files = _files_of(Path(name).expanduser())
    for file in files:
        if file.stat().st_size == 0:
            raise ValueError(f"`{file}` is empty.")
    return files


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in LOADERS)
        if not files:
            raise ValueError(f"The directory `{path}` has no file that ends in {', '.join(LOADERS)}.")
        return [file for file in files if file.suffix != ".txt"] or files  # a `.txt` beside data files is a note
    if path.is_file():
        if path.suffix not in LOADERS:
            raise ValueError(f"`{path}` must end in one of {', '.join(LOADERS)}.")
        return [path]
    looks_like_a_path = path.suffix in LOADERS or path.is_absolute() or len(path.parts) > 2
    if looks_like_a_path:
        raise ValueError(f"There is no file or directory `{path}` (looked in {Path.cwd()}).")
    return []
