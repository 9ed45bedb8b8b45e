"""Archives that nobody vouches for."""

import io
import random
import struct
import zipfile

import pytest

from app import archive
from rdi_keras.errors import InputError


def packed(files: dict[str, bytes], kind=zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return file


def members(file):
    """With an allowance of its own, made now: tests change the limits."""
    return archive.members(file, archive.Allowance(archive.MAX_FILES, archive.MAX_TOTAL_BYTES))


def test_files_come_in_their_order_and_folders_do_not():
    found = list(members(packed({"b/2.png": b"two", "b/": b"", "a.png": b"one"})))
    assert [(each.name, each.data, each.error) for each in found] == [
        ("b/2.png", b"two", None),
        ("a.png", b"one", None),
    ]


def test_what_systems_hide_in_archives_is_left_out():
    files = {"__MACOSX/._a.png": b"x", "x/.DS_Store": b"x", "Thumbs.db": b"x", "a.png": b"one"}
    assert [each.name for each in members(packed(files))] == ["a.png"]


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:\\a.png", "x\\..\\a.png"])
def test_a_path_that_leads_out_is_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad, good = members(packed({name: b"x", "good.png": b"y"}))
    assert "leads out" in bad.error
    assert bad.data is None
    assert good.data == b"y"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_swells_is_refused_and_the_next_is_read(monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 10_000)
    bad, good = members(packed({"bomb.png": bytes(10_000_000), "good.png": b"y"}))
    assert "unpacks to more than" in bad.error
    assert good.data == b"y"


def test_a_header_that_lies_about_the_size_is_not_believed(monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 10_000)
    data = bytearray(packed({"bomb.png": bytes(1_000_000)}).getvalue())
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<I", 100)
    data[22:26] = struct.pack("<I", 100)
    (bad,) = members(io.BytesIO(bytes(data)))
    assert bad.data is None or len(bad.data) <= 100


def test_an_archive_that_swells_in_all_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 50_000)
    files = {f"{number}.png": bytes(20_000) for number in range(5)}
    with pytest.raises(InputError, match="unpack to more than"):
        list(members(packed(files)))


def test_too_many_files_are_refused_before_any_is_read(monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    file = packed({str(number): b"" for number in range(4)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError, match=r"more than 3 files"):
        list(members(file))


def test_files_that_are_refused_use_up_the_allowance_too(monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 10_000)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 50_000)
    with pytest.raises(InputError, match="unpack to more than"):
        list(members(packed({f"{number}.png": bytes(20_000) for number in range(6)})))


def test_all_archives_of_a_visitor_share_one_allowance():
    allowance = archive.Allowance(files=3)
    assert len(list(archive.members(packed({"1": b"", "2": b""}), allowance))) == 2
    with pytest.raises(InputError, match="more than"):
        list(archive.members(packed({"3": b"", "4": b""}), allowance))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_readers_unpack_more_than_asked_are_refused(method, monkeypatch):
    file = packed({"bomb.png": bytes(1_000_000)}, method)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("read"))
    (bad,) = members(file)
    assert "unusual way" in bad.error


def test_a_long_list_of_files_is_refused_before_it_is_read(monkeypatch):
    file = packed({str(number): b"" for number in range(archive.MAX_ENTRIES + 1)}, zipfile.ZIP_STORED)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError, match="lists more than"):
        archive.count(file)


def test_numbers_in_a_zip64_record_do_not_get_past_the_limit(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # So that it is written for three files.
    file = packed({str(number): b"" for number in range(3)}, zipfile.ZIP_STORED)
    assert archive.ZIP64_LOCATOR in file.getvalue()
    with pytest.raises(InputError, match="ZIP64"):
        archive.count(file)


def test_files_are_counted_without_being_read(monkeypatch):
    file = packed({"a": b"1", "x/": b"", ".DS_Store": b"", "b": b"2"})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("read"))
    assert archive.count(file) == 2


def test_an_archive_in_an_archive_is_not_opened():
    inner = packed({"a.png": b"one"}).getvalue()
    (found,) = members(packed({"inner.zip": inner}))
    assert found.data == inner


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", packed({"a": b"x" * 100}).getvalue()[:60]],
    ids=["nothing", "other bytes", "cut short"],  # The last holds the time: as a name it would differ.
)
def test_what_is_no_archive_is_refused_in_words(data):
    with pytest.raises(InputError, match="no ZIP archive"):
        list(members(io.BytesIO(data)))


def test_an_encrypted_file_is_refused_by_name():
    data = bytearray(packed({"a.png": b"x"}).getvalue())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (found,) = members(io.BytesIO(bytes(data)))
    assert "encrypted" in found.error


def test_damaged_archives_are_read_or_refused_in_words():
    chance = random.Random(0)
    whole = packed({f"{number}.png": chance.randbytes(300) for number in range(4)}).getvalue()
    outcomes = set()
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            outcomes |= {each.error is None for each in members(io.BytesIO(bytes(data)))}
        except InputError:
            outcomes.add("refused")
    assert outcomes == {True, False, "refused"}
