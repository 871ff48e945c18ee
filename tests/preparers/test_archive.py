"""Members of an archive are found wherever they were packed; a bad archive is named."""

import zipfile

import pytest

from llm_jepa.preparers.archive import extract_member, read_member


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("folder/tables.json", "[1]")
        packed.writestr("__MACOSX/folder/tables.json", "junk")
        packed.writestr("folder/other_tables.json", "[2]")
        packed.writestr("one/twice.json", "")
        packed.writestr("two/twice.json", "")
        packed.writestr("latin.json", b"[\n\xe9]")
        packed.writestr("database/x/x.sqlite", b"content")
    return tmp_path / "a.zip"


def test_a_member_is_found_by_the_end_of_its_path(archive, tmp_path):
    assert read_member(archive, "tables.json") == "[1]"
    extract_member(archive, "x/x.sqlite", tmp_path / "new" / "x.sqlite")
    assert (tmp_path / "new" / "x.sqlite").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.json", "a.zip` has 0 files `none.json`; it must have exactly one"),
        ("twice.json", "a.zip` has 2 files `twice.json`; it must have exactly one"),
        ("latin.json", "`latin.json` in .*a.zip`, line 2: not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(archive, name, message):
    with pytest.raises(ValueError, match=message):
        read_member(archive, name)


def test_a_damaged_archive_is_named(archive):
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"[1]", b"[7]"))
    with pytest.raises(ValueError, match=r"a.zip` is not a zip archive, or is damaged: Bad CRC"):
        read_member(archive, "tables.json")
    archive.write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"a.zip` is not a zip archive"):
        read_member(archive, "tables.json")
