"""Where a data set is: in files of this machine, or on the Hub. Imports neither `datasets` nor torch."""

from pathlib import Path

LOADERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text",
}  # fmt: skip
"""File name suffix -> loader of `datasets`. A local file is one split, `train`. Each line of a `.txt` is a row."""


def local_files(path: Path) -> list[Path]:
    """The data files of a local data set; an empty list for a Hub id.

    Raises:
        ValueError: A path without data files, or with nothing there.
    """
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


def check_data_set(name: str) -> None:
    """Check that a local data set has data; a Hub id passes.

    Raises:
        ValueError: There is no such file or directory, it has no data file, or one of them is empty.
    """
    for file in local_files(Path(name).expanduser()):
        if file.stat().st_size == 0:
            raise ValueError(f"`{file}` is empty.")
