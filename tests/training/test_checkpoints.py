"""States on disk: whole or not there, and the one before where the newest is damaged."""

import errno
import os
import resource
import signal

import numpy as np
import pytest

from rdi_keras.training import Checkpoints, Progress


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    return Checkpoints(tmp_path / "made", "model", "fingerprint", say=said.append)


def state(number: int) -> list[np.ndarray]:
    return [np.full((3, 4), number, np.float32), np.array(number), np.arange(number, dtype=np.uint32)]


def names(checkpoints) -> list[str]:
    return [each.name for each in checkpoints._folder.iterdir()]


def assert_restores(checkpoints, number: int) -> None:
    arrays, progress = checkpoints.restore()
    for ours, theirs in zip(arrays, state(number), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert progress == Progress(1, number, 2.5, [{"loss": 0.1 + number}])


def save(checkpoints, number: int) -> bool:
    return checkpoints.save(state(number), Progress(1, number, 2.5, [{"loss": 0.1 + number}]))


def test_there_is_nothing_to_restore_at_first(checkpoints):
    assert checkpoints.restore() is None


def test_the_newest_is_restored_and_two_are_kept(checkpoints):
    for number in (9, 10, 100):
        assert save(checkpoints, number)
    assert sorted(names(checkpoints)) == ["model-000001-00000010.npz", "model-000001-00000100.npz"]
    assert_restores(checkpoints, 100)
    checkpoints.clear()
    assert names(checkpoints) == []


def test_parts_do_not_touch_each_other(checkpoints, tmp_path):
    save(checkpoints, 1)
    other = Checkpoints(tmp_path / "made", "twin", "fingerprint")
    assert other.restore() is None
    other.clear()
    assert_restores(checkpoints, 1)


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_one_is_named_and_the_one_before_taken(checkpoints, said, share):
    save(checkpoints, 1), save(checkpoints, 2)
    newest = checkpoints._folder / "model-000001-00000002.npz"
    newest.write_bytes(newest.read_bytes()[: int(share * newest.stat().st_size)])
    assert_restores(checkpoints, 1)
    assert "'model-000001-00000002.npz' is damaged" in said[0]
    assert "going back to the one before" in said[0]


def test_a_flipped_byte_is_noticed(checkpoints, said):
    save(checkpoints, 1), save(checkpoints, 2)
    newest = checkpoints._folder / "model-000001-00000002.npz"
    content = bytearray(newest.read_bytes())
    content[content.index(state(2)[0].tobytes()) + 5] ^= 1
    newest.write_bytes(content)
    assert_restores(checkpoints, 1)
    assert "damaged" in said[0]


def test_with_all_damaged_training_starts_anew(checkpoints, said):
    save(checkpoints, 1)
    (checkpoints._folder / "model-000001-00000001.npz").write_bytes(b"PK")
    assert checkpoints.restore() is None
    assert len(said) == 1


def test_a_hostile_one_runs_no_code(checkpoints, said, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    save(checkpoints, 1)
    with (checkpoints._folder / "model-000002-00000000.npz").open("wb") as file:
        np.savez(file, np.array([Hostile()], object), about=np.array([Hostile()], object))
    assert_restores(checkpoints, 1)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_may_not_grow_is_said_and_leaves_the_last_one(checkpoints, said):
    """As on a full disk, by the process's own limit."""
    save(checkpoints, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        assert not save(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "Cannot write the checkpoint 'model-000001-00000002.npz': File too large" in said[0]
    assert "Training goes on; the last one is model-000001-00000001.npz" in said[0]
    assert names(checkpoints) == ["model-000001-00000001.npz"]
    assert_restores(checkpoints, 1)


def test_a_full_disk_at_the_last_moment_leaves_no_half_file(checkpoints, said, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert not save(checkpoints, 1)
    assert "No space left on device" in said[0]
    assert names(checkpoints) == []


def test_an_unwritable_folder_is_said(tmp_path, said):
    (tmp_path / "file").write_text("in the way")
    assert not save(Checkpoints(tmp_path / "file", "model", "fingerprint", say=said.append), 1)
    assert "Cannot write the checkpoint" in said[0]


def test_it_is_time_by_steps_or_by_minutes(tmp_path):
    by_steps = Checkpoints(tmp_path / "steps", "model", "fingerprint", minutes=60, steps=3)
    for number in range(1, 8):
        by_steps.save_if_due(lambda: state(1), Progress(0, number))
    assert sorted(names(by_steps)) == ["model-000000-00000003.npz", "model-000000-00000006.npz"]
    by_time = Checkpoints(tmp_path / "time", "model", "fingerprint", minutes=0)
    by_time.save_if_due(lambda: state(1), Progress(0, 1))
    assert names(by_time) == ["model-000000-00000001.npz"]
