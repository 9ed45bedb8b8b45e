"""What is read, in which order, and how a shard is scored where images are bad or of another size."""

import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import rdi_keras as rdi
from rdi_keras import data, scoring
from rdi_keras.errors import InputError
from rdi_keras.scoring.samples import Sample
from rdi_keras.scoring.worker import Plan, ShardScorer, executed_digest

NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """A scorer sets the threads of its process, which here is that of the tests."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")


def scorer(run_folder, source, out, resize=False):
    predictor = rdi.Predictor(run_folder)
    limits = tuple(predictor.thresholds.tolist())
    settings = {"executed_files": executed_digest(run_folder, predictor.engine)}
    return ShardScorer(Plan(run_folder, source, out, predictor.engine, limits, 8, resize, settings))


def change(file):
    """Other bytes, as many as before, a second later."""
    data, time = bytearray(file.read_bytes()), file.stat().st_mtime_ns
    data[-1] ^= 255
    file.write_bytes(data)
    os.utime(file, ns=(time, time + 10**9))


def test_shards_are_sorted_names_of_a_fixed_number(photos):
    found = scoring.source(str(photos))
    shards = found.shards(20, None)
    assert [len(shard["names"]) for shard in shards] == [20, 20, 12]
    assert [shard["number"] for shard in shards] == [0, 1, 2]
    names = [name for shard in shards for name in shard["names"]]
    assert names == sorted(names)
    assert not {"notes.txt", ".hidden/x.png"} & set(names)
    assert [len(shard["names"]) for shard in found.shards(20, 25)] == [20, 5]
    assert scoring.source(f"folder:{photos}").shards(20, None) == shards


def test_a_source_travels_light(photos):
    found = scoring.source(str(photos))
    found.shards(20, None)
    assert len(pickle.dumps(found)) < 1000
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_changed_file_makes_other_data(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    before = scoring.source(str(tmp_path)).describe()
    assert scoring.source(str(tmp_path)).describe() == before
    change(tmp_path / "a.png")
    changed = scoring.source(str(tmp_path)).describe()
    assert changed != before
    (tmp_path / "a.png").write_bytes(b"12")
    assert scoring.source(str(tmp_path)).describe() not in (before, changed)


def test_linked_folders_are_read_and_loops_refused(photos, tmp_path):
    (tmp_path / "digits").symlink_to(photos / "some" / "3")
    found = scoring.source(str(tmp_path))
    (shard,) = found.shards(100, None)
    assert len(shard["names"]) == len(list((photos / "some" / "3").iterdir()))
    assert {sample.true_label for sample in found.read(shard, ["letters", "digits"])} == {1}
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).mkdir()
        (tmp_path / one / "link").symlink_to(tmp_path / other)
    with pytest.raises(InputError, match="The link '.*/[ab]/link/link' leads to a folder that it lies in"):
        scoring.source(str(tmp_path)).describe()


def test_a_folder_that_cannot_be_read_is_named(photos, monkeypatch):
    """Simulated: root reads everything."""
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "some":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match="Cannot read the folder '.*/some': Permission denied. Make it"):
        scoring.source(str(photos)).describe()


def test_whatever_fails_in_a_worker_is_one_line(run_folder, photos, tmp_path, monkeypatch):
    found = scoring.source(str(photos))
    worker = scorer(run_folder, found, tmp_path / "out")
    scoring.ResultFolder(tmp_path / "out", "path").open(worker.plan.settings)

    def full(*_):
        raise OSError(28, "No space left\non device")

    monkeypatch.setattr(scoring.ResultFolder, "write_shard", full)
    answer = worker(found.shards(3, 3)[0])
    assert "could not score shard 0: OSError: [Errno 28] No space left on device" in answer["refused"]
    assert "\n" not in answer["refused"]


def test_a_worker_with_other_results_or_another_model_refuses(run_folder, photos, tmp_path):
    found = scoring.source(str(photos))
    (shard,) = found.shards(3, 3)
    worker = scorer(run_folder, found, tmp_path / "out")
    assert worker(shard)["refused"].startswith("A worker does not see the folder")
    (tmp_path / "out").mkdir()
    assert worker(shard)["refused"].startswith("A worker does not see the folder")
    results = scoring.ResultFolder(tmp_path / "out", "path")
    results.open({"executed_files": "others"})
    assert "holds scores with other settings (executed_files: others there" in worker(shard)["refused"]
    assert results.finished() == set()

    copy = shutil.copytree(run_folder, tmp_path / "copy")
    worker = scorer(copy, found, tmp_path / "second")
    scoring.ResultFolder(tmp_path / "second", "path").open(worker.plan.settings)
    with (copy / "model.keras").open("ab") as file:
        file.write(b"more")
    assert worker(shard)["refused"].startswith("A worker finds another model at")
    shutil.rmtree(copy)
    assert worker(shard)["refused"].startswith("A worker does not see the model")


def test_images_of_another_size_are_resized_only_if_asked(run_folder, tmp_path):
    Image.fromarray(np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "large.png")
    found = scoring.source(str(tmp_path))
    (shard,) = found.shards(10, None)
    (refused,) = scorer(run_folder, found, tmp_path).rows(shard)
    assert refused["error"] == "has 16×16 pixels; the model takes 8×8. Say --resize true to resize"
    (row,) = scorer(run_folder, found, tmp_path, resize=True).rows(shard)
    image = Image.open(tmp_path / "large.png").convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
    expected = rdi.Predictor(run_folder).predict(np.float32(image)[None, ..., :1] / 255)
    assert "error" not in row
    np.testing.assert_allclose(row["entropy"], expected.entropy[0], rtol=1e-5)


def test_a_batch_of_bad_images_alone_is_no_end(run_folder, tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02d}.png").write_bytes(b"")
    found = scoring.source(str(tmp_path))
    rows = [
        row for shard in found.shards(100, None) for row in scorer(run_folder, found, tmp_path).rows(shard)
    ]
    assert [row["path"] for row in rows] == [f"{number:02d}.png" for number in range(20)]
    assert all(row["path"] in row["error"] for row in rows)


def test_no_images_and_no_folder_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="No image below .*Allowed: .bmp.*Name another folder"):
        scoring.source(str(tmp_path)).shards(10, None)
    with pytest.raises(InputError, match="Give a folder, or the name of a TFDS set"):
        scoring.source(f"folder:{tmp_path}/missing")


def test_a_file_name_that_results_cannot_hold_is_named(tmp_path):
    (tmp_path / "caf\udce9.png").touch()
    with pytest.raises(InputError, match="not UTF-8. Rename the file"):
        scoring.source(str(tmp_path)).describe()


@pytest.fixture
def tfds_set(digits, tmp_path):
    """A prepared set of the digits."""
    images, labels = digits
    features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(names=NAMES),
    }
    records = tf.data.Dataset.from_tensor_slices({"image": images[..., None], "label": labels})
    tfds.dataset_builders.store_as_tfds_dataset(
        "some_digits",
        "1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": records, "test": records},
        data_dir=tmp_path,
        disable_shuffling=True,
    )
    return tmp_path


def test_a_tfds_split_is_read_by_ranges_and_scored_as_the_set_in_memory(run_folder, tfds_set):
    found = scoring.source("some_digits", str(tfds_set))
    shards = found.shards(20, None)
    assert [(shard["start"], shard["stop"]) for shard in shards] == [(0, 20), (20, 40), (40, 47)]
    again = pickle.loads(pickle.dumps(found))
    rows = [row for shard in shards for row in scorer(run_folder, again, tfds_set).rows(shard)]
    assert [row["index"] for row in rows] == list(range(47))
    split = data.load("some_digits", str(tfds_set)).test
    prediction = rdi.Predictor(run_folder).predict(split.images)
    np.testing.assert_array_equal([row["true_label"] for row in rows], split.labels)
    np.testing.assert_array_equal([row["label"] for row in rows], prediction.label)
    np.testing.assert_array_equal([row["exit"] for row in rows], prediction.exit)
    np.testing.assert_allclose([row["entropy"] for row in rows], prediction.entropy, atol=1e-5)


def test_one_damaged_record_is_one_error(run_folder, tfds_set, monkeypatch):
    found = scoring.source("some_digits", str(tfds_set))
    read = type(found).read

    def damaged(self, *arguments):
        for sample in read(self, *arguments):
            broken = Sample(sample.key, sample.data[:40], sample.true_label)
            yield broken if sample.key == 2 else sample

    monkeypatch.setattr(type(found), "read", damaged)
    rows = scorer(run_folder, found, tfds_set).rows(found.shards(20, None)[0])
    assert [row["index"] for row in rows if "error" in row] == [2]
    assert rows[2]["error"].startswith("Cannot read the image 2: ")
    assert "{{" not in rows[2]["error"]


def test_a_damaged_record_file_costs_the_rest_of_one_shard(run_folder, tfds_set):
    (file,) = tfds_set.glob("some_digits/1.0.0/*test.tfrecord*")
    data, place = bytearray(file.read_bytes()), 0
    for _ in range(25):
        place += 8 + 4 + struct.unpack_from("<Q", data, place)[0] + 4
    data[place + 20] ^= 255
    file.write_bytes(data)
    found = scoring.source("some_digits", str(tfds_set))
    rows = [
        row for shard in found.shards(20, None) for row in scorer(run_folder, found, tfds_set).rows(shard)
    ]
    assert [row["index"] for row in rows] == list(range(47))
    assert [row["index"] for row in rows if "error" in row] == list(range(25, 40))
    assert rows[30]["error"].startswith("the record file is damaged from image 25 on: corrupted record at")


def test_a_replaced_record_file_or_another_folder_makes_other_data(tfds_set, tmp_path_factory):
    before = scoring.source("some_digits", str(tfds_set)).describe()
    assert scoring.source("some_digits", str(tfds_set)).describe() == before
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(tfds_set / "some_digits", copy / "some_digits")
    assert scoring.source("some_digits", str(copy)).describe() != before
    (file,) = tfds_set.glob("some_digits/1.0.0/*test.tfrecord*")
    change(file)
    assert scoring.source("some_digits", str(tfds_set)).describe() != before


def test_a_worker_that_does_not_see_the_data_refuses(run_folder, digits, photos, tfds_set, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos", symlinks=True)
    found = scoring.source(str(folder))
    shard = found.shards(100, None)[0]
    (folder / shard["names"][0]).unlink()
    first, second, *_ = found.read(shard, NAMES)
    assert first.error == "cannot be read: No such file or directory"
    assert second.data, "one lost image is its own error"
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="A worker does not see any of the 52 images .*/photos'"):
        next(found.read(shard, NAMES))
    folder.mkdir()  # As where nothing is mounted.
    with pytest.raises(InputError, match="A worker does not see any of the 52 images .*/photos'"):
        next(found.read(shard, NAMES))

    found = scoring.source("some_digits", str(tfds_set))
    shard, worker = found.shards(100, None)[0], pickle.loads(pickle.dumps(found))
    (file,) = tfds_set.glob("some_digits/1.0.0/*test.tfrecord*")
    file.unlink()
    with pytest.raises(InputError, match="A worker does not see the records .*No such file"):
        next(worker.read(shard, NAMES))
    with pytest.raises(InputError, match="Cannot read the record file .*Prepare the TFDS set again"):
        scoring.source("some_digits", str(tfds_set)).describe()
    shutil.rmtree(tfds_set / "some_digits")
    with pytest.raises(InputError, match="A worker does not see a prepared TFDS set .*/some_digits/1.0.0'"):
        next(pickle.loads(pickle.dumps(found)).read(shard, NAMES))


def test_labels_of_other_classes_are_not_taken_for_the_models(tfds_set):
    found = scoring.source("some_digits", str(tfds_set))
    (sample, *_) = found.read(found.shards(20, 1)[0], ["cat", "dog"])
    assert sample.true_label is None


def test_unknown_sets_and_splits_are_refused(tfds_set):
    with pytest.raises(InputError, match="has no split 'dev'. Allowed: t.*, t"):
        scoring.source("some_digits", str(tfds_set), "dev")
    with pytest.raises(InputError, match="Unknown data set 'no such'"):
        scoring.source("no such", str(tfds_set))
