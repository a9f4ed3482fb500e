"""Every kind of source gives its pictures, and says which it cannot give."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # it has none
import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import images
from crispen.errors import DataError, MissingExtra
from crispen.training.places import RemotePlace
from crispen.training.sources import File, Sample, Unreadable, find_files, read_samples
from files import write

Bytes = NDArray[np.uint8]


def picture(seed: int, height: int = 24, width: int = 28) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def png(pixels: Bytes, tmp_path: Path) -> bytes:
    path = tmp_path / "encoded.png"
    images.write(images.from_array(pixels), path, force=True)
    return path.read_bytes()


def tar_of(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, cast(Literal["w"], mode)) as tar:  # or another of the modes that write
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def idx_pictures(pictures: Bytes) -> bytes:
    return struct.pack(">IIII", 0x803, *pictures.shape) + pictures.tobytes()


def idx_labels(labels: list[int]) -> bytes:
    return struct.pack(">II", 0x801, len(labels)) + bytes(labels)


def cifar(labels: list[int], *, more: bytes = b"") -> bytes:
    planes = [picture(label, 32, 32).transpose(2, 0, 1).tobytes() for label in labels]
    return b"".join(more + bytes([label]) + plane for label, plane in zip(labels, planes, strict=True))


def read(*sources: str | Path, purpose: str = "train") -> list[Sample | Unreadable]:
    assert purpose in ("train", "valid")
    return list(read_samples(find_files(sources, purpose=purpose), purpose=purpose))


def samples(*sources: str | Path, purpose: str = "train") -> dict[str, Sample]:
    """What is read, by the last part of its name."""
    found = [sample for sample in read(*sources, purpose=purpose) if isinstance(sample, Sample)]
    return {sample.name.replace(":", "/").rpartition("/")[2]: sample for sample in found}


def names(*sources: str | Path, purpose: str = "train") -> list[str]:
    return sorted(samples(*sources, purpose=purpose))


def test_a_folder_is_searched_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    write(tmp_path / "deep" / "er" / "b.PNG", png(picture(1), tmp_path.parent))
    write(tmp_path / "deep" / "note.txt", b"no picture")
    write(tmp_path / ".hidden" / "c.png", picture(2))
    write(tmp_path / "__MACOSX" / "._a.png", b"what a Mac leaves behind")
    found = samples(tmp_path)
    assert sorted(found) == ["a.png", "b.PNG"]
    np.testing.assert_array_equal(found["b.PNG"].picture, picture(1))
    assert found["a.png"].label is None


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "store" / "a.png", picture(0))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "data")
    assert names(tmp_path / "data") == ["a.png"]


def test_a_source_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", picture(0))
    assert len(read(tmp_path, path, str(path))) == 1


def test_a_source_under_two_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path and an absolute one, a link, a URL with another slash; its name is the first."""
    path = write(tmp_path / "data" / "a.png", picture(0))
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "again.png").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    found = read("data", tmp_path / "data", "linked", "linked/../data/a.png")
    assert [sample.name for sample in found] == ["data/a.png"]
    with cast(Any, fsspec.open)("memory://twice/a.png", "wb") as file:
        file.write(path.read_bytes())
    assert len(read("memory://twice", "memory://twice/a.png", "memory:///twice/a.png")) == 1


def test_gray_transparent_and_deep_pictures_become_rgb_bytes(tmp_path: Path) -> None:
    write(tmp_path / "gray.png", picture(0)[:, :, :1])
    deep = np.full((8, 8, 4), 257 * 100, np.uint16)
    images.write(images.from_array(deep), tmp_path / "deep.png")
    found = samples(tmp_path)
    np.testing.assert_array_equal(found["gray.png"].picture, picture(0)[:, :, [0, 0, 0]])
    np.testing.assert_array_equal(found["deep.png"].picture, np.full((8, 8, 3), 100, np.uint8))


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_a_tar_holds_pictures(tmp_path: Path, suffix: str, mode: str) -> None:
    members = {f"./inner/{name}.png": png(picture(seed), tmp_path) for seed, name in enumerate("ba")}
    shard = tar_of(
        tmp_path / f"shard{suffix}", members | {"inner/note.txt": b"hi", "._b.png": b"no"}, mode=mode
    )
    found = samples(shard)
    assert sorted(found) == ["a.png", "b.png"]
    np.testing.assert_array_equal(found["a.png"].picture, picture(1))


def test_a_zip_holds_pictures(tmp_path: Path) -> None:
    members = {"folder/": b"", "folder/a.png": png(picture(0), tmp_path), "folder/readme.md": b"hi"}
    found = samples(zip_of(tmp_path / "pictures.zip", members))
    np.testing.assert_array_equal(found["a.png"].picture, picture(0))
    assert len(found) == 1


def test_a_folder_of_shards_is_read_but_not_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "unpacked" / "a.png", picture(0))
    content = png(picture(1), tmp_path)
    zip_of(data / "unpacked.zip", {"a.png": content})
    tar_of(data / "shard.tar", {"b.png": content})
    zip_of(data / "more.zip", {"c.png": content})
    assert names(data) == ["a.png", "b.png", "c.png"]


LAYOUT = [
    "DIV2K_train_HR/0001.png",
    "DIV2K_train_HR/0002.png",
    "DIV2K_valid_HR/0801.png",
    "DIV2K_train_LR_bicubic/X4/0001x4.png",
    "DIV2K_valid_LR_unknown/X2/0801x2.png",
    "DIV2K_train_LR_mild/0001x4m.png",
]


@pytest.mark.parametrize("packed", ["folders", "zips", "one zip", "one tar", "nested"])
def test_of_div2k_only_the_part_for_the_purpose_is_taken(tmp_path: Path, packed: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    contents = {name: png(picture(seed), tmp_path) for seed, name in enumerate(LAYOUT)}
    if packed == "zips":
        for folder in {name.partition("/")[0] for name in LAYOUT}:
            members = {name: contents[name] for name in LAYOUT if name.startswith(f"{folder}/")}
            zip_of(root / f"{folder}.zip", members)
    elif packed == "one zip":
        root = zip_of(root / "DIV2K.zip", {f"DIV2K/{name}": content for name, content in contents.items()})
    elif packed == "one tar":
        root = tar_of(root / "DIV2K.tar", contents)
    else:
        for name, content in contents.items():
            write(root / ("DIV2K" if packed == "nested" else "") / name, content)
    assert names(root) == ["0001.png", "0002.png"]
    assert names(root, purpose="valid") == ["0801.png"]


def test_what_is_named_directly_is_taken(tmp_path: Path) -> None:
    content = png(picture(0), tmp_path)
    write(tmp_path / "DIV2K_valid_HR" / "DIV2K_valid_HR" / "0801.png", content)
    archive = zip_of(tmp_path / "DIV2K_train_LR_x8.zip", {"DIV2K_train_LR_x8/0001x8.png": content})
    assert names(tmp_path / "DIV2K_valid_HR") == ["0801.png"]
    assert names(archive) == ["0001x8.png"]


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "DIV2K_valid_HR" / "0801.png", picture(0))
    with pytest.raises(
        DataError, match=r"no readable picture in .* for the purpose 'train', only DIV2K_valid_HR"
    ):
        read(tmp_path)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """As torchvision keeps it: one pair gzipped, one both gzipped and not."""
    folder = tmp_path / "MNIST" / "raw"
    digits = np.random.default_rng(0).integers(0, 256, (3, 12, 8)).astype(np.uint8)
    for part, pictures, labels in (("train", digits, [5, 0, 4]), ("t10k", digits[:2] // 2, [7, 2])):
        for name, content in (("images-idx3", idx_pictures(pictures)), ("labels-idx1", idx_labels(labels))):
            write(folder / f"{part}-{name}-ubyte.gz", gzip.compress(content))
            if part == "train":
                write(folder / f"{part}-{name}-ubyte", content)
    return folder


def test_mnist_has_pictures_and_labels_for_either_purpose(mnist: Path) -> None:
    train, valid = read(mnist.parent), read(mnist, purpose="valid")
    assert [sample.label for sample in train if isinstance(sample, Sample)] == [5, 0, 4]
    assert [sample.label for sample in valid if isinstance(sample, Sample)] == [7, 2]
    assert isinstance(train[0], Sample)
    assert train[0].picture.shape == (12, 8, 3)
    assert (train[0].picture == train[0].picture[:, :, :1]).all()


def test_a_file_of_digits_finds_its_labels(mnist: Path) -> None:
    for path in (mnist / "t10k-images-idx3-ubyte.gz", mnist / "train-images-idx3-ubyte"):
        assert all(sample.label is not None for sample in samples(path).values())
    for labels in mnist.glob("*labels*"):
        labels.unlink()
    assert [sample.label for sample in samples(mnist).values()] == [None] * 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "is not an IDX file"),
        (
            "train-images-idx3-ubyte",
            idx_pictures(np.zeros((3, 4, 4), np.uint8))[:-1],
            "does not hold the 3 pictures",
        ),
        ("train-images-idx3-ubyte.gz", gzip.compress(bytes(64), mtime=0)[:-9], "is damaged"),
        (
            "train-labels-idx1-ubyte",
            idx_labels([1, 2]),
            "holds 3 pictures, but the file of labels beside it 2",
        ),
        ("train-labels-idx1-ubyte", b"labels", "is no IDX file of labels"),
    ],
)
def test_damaged_digits_are_named(mnist: Path, name: str, content: bytes, reason: str) -> None:
    (mnist / name).write_bytes(content)
    path = mnist / name.replace("labels-idx1", "images-idx3")
    (found,) = read(path)
    assert isinstance(found, Unreadable)
    assert reason in found.reason


@pytest.mark.parametrize("packed", [False, True])
def test_cifar_has_pictures_and_labels(tmp_path: Path, packed: bool) -> None:
    folder = "cifar-10-batches-bin"
    members = {f"{folder}/data_batch_1.bin": cifar([3, 1]), f"{folder}/data_batch_2.bin": cifar([2])}
    members |= {f"{folder}/test_batch.bin": cifar([9]), f"{folder}/batches.meta.txt": b"airplane\n"}
    source = tmp_path / "cifar"
    source.mkdir()
    tar_of(source / "cifar-10-binary.tar.gz", members, mode="w:gz")
    if not packed:
        for name, content in members.items():
            write(source / name, content)
    for place in (source, source / "cifar-10-binary.tar.gz"):
        found = [sample for sample in read(place) if isinstance(sample, Sample)]
        assert [sample.label for sample in found] == [3, 1, 2]
        np.testing.assert_array_equal(found[0].picture, picture(3, 32, 32))
        assert [sample.label for sample in samples(place, purpose="valid").values()] == [9]


def test_cifar_100_has_the_finer_label(tmp_path: Path) -> None:
    path = write(tmp_path / "train.bin", cifar([77, 5], more=b"\x13"))
    assert [sample.label for sample in samples(path).values()] == [77, 5]
    (found,) = read(write(tmp_path / "test.bin", b"something else"))
    assert isinstance(found, Unreadable)


def test_cifars_pickled_version_is_refused(tmp_path: Path) -> None:
    members = {"cifar-10-batches-py/data_batch_1": b"\x80\x02pickle"}
    tar_of(tmp_path / "cifar-10-python.tar.gz", members, mode="w:gz")
    tar_of(tmp_path / "other.tar", members)
    write(tmp_path / "folder" / "cifar-10-batches-py" / "data_batch_1", b"\x80\x02pickle")
    write(tmp_path / "cifar-100-python" / "train", b"\x80\x02pickle")
    for name in ("cifar-10-python.tar.gz", "other.tar", "folder", "cifar-100-python"):
        with pytest.raises(DataError, match=r"pickled version.*get cifar-10-binary\.tar\.gz"):
            read(tmp_path / name)
    write(tmp_path / "test_batch" / "a.png", picture(0))
    assert names(tmp_path / "test_batch") == ["a.png"], "a folder of pictures may be called so"


def test_damaged_archives_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    content = {f"{name}.png": png(picture(seed), tmp_path) for seed, name in enumerate("abc")}
    good = tar_of(tmp_path / "good.tar", content)
    cut = write(tmp_path / "cut.tar", good.read_bytes()[:3000])
    bad = write(tmp_path / "bad.zip", b"PK, but no zip")
    zipped = bytearray(zip_of(tmp_path / "crc.zip", content).read_bytes())
    zipped[zipped.index(content["b.png"]) + 500] ^= 0xFF
    crc = write(tmp_path / "crc.zip", bytes(zipped))
    found = read(cut, bad, good, crc)
    unreadable = [entry.name.removeprefix(f"{tmp_path}/") for entry in found if isinstance(entry, Unreadable)]
    assert unreadable[0].startswith("cut.tar")
    assert unreadable[-2:] == ["bad.zip", "crc.zip:b.png"]
    assert sum(entry.name.startswith(str(good)) for entry in found) == 3
    assert sum(isinstance(entry, Sample) and entry.name.startswith(str(crc)) for entry in found) == 2


def test_an_unreadable_member_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    shard = tar_of(tmp_path / "s.tar", {"broken.png": b"\x89PNG\r\n\x1a\n broken"})
    (found,) = read(shard)
    assert isinstance(found, Unreadable)
    assert found.name == f"{shard}:broken.png"
    assert found.reason.startswith("has a damaged")


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "s.zip", {"a.png": png(picture(0), tmp_path)})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (found,) = read(write(archive, bytes(content)))
    assert isinstance(found, Unreadable)
    assert "encrypted" in found.reason


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def test_urls_give_what_paths_do(memory: Any, mnist: Path, tmp_path: Path) -> None:
    content = {f"{name}.png": png(picture(seed), tmp_path) for seed, name in enumerate("abc")}
    memory.pipe("/bucket/loose/a.png", content["a.png"])
    memory.pipe("/bucket/shard.tar", tar_of(tmp_path / "s.tar", content).read_bytes())
    memory.pipe("/bucket/part.zip", zip_of(tmp_path / "s.zip", content).read_bytes())
    for path in mnist.iterdir():
        memory.pipe(f"/bucket/mnist/{path.name}", path.read_bytes())
    assert names("memory://bucket/loose") == names("memory://bucket/loose/a.png") == ["a.png"]
    assert (
        names("memory://bucket/shard.tar") == names("memory://bucket/part.zip") == ["a.png", "b.png", "c.png"]
    )
    assert len(read("memory://bucket")) == 1 + 3 + 3 + 3
    digits = samples("memory://bucket/mnist", purpose="valid").values()
    assert [digit.label for digit in digits] == [7, 2]
    np.testing.assert_array_equal(samples("memory://bucket/shard.tar")["b.png"].picture, picture(1))


def test_a_shard_at_a_url_is_never_held_as_a_whole(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"{seed:03}.png": png(picture(seed), tmp_path) for seed in range(40)}
    shard = tar_of(tmp_path / "s.tar", members).read_bytes()
    memory.pipe("/s.tar", shard)
    taken: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            taken.append(len(content))
            return content

    def open_counted(*_: Any) -> Counted:
        return Counted(shard)

    monkeypatch.setattr(memory, "open", open_counted)
    stream = read_samples(find_files(["memory://s.tar"], purpose="train"), purpose="train")
    next(stream)
    assert 0 < sum(taken) < len(shard) / 2
    assert max(taken) < len(shard) / 2
    assert len(list(stream)) == 39


def test_a_server_that_sends_no_parts_is_read_all_the_same(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FromTheBeginning(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise ValueError("only reading this file from the beginning is supported")
            return super().read(size)

    def open_as_http_does(_: str, mode: str, *, block_size: int | None = None, **__: Any) -> io.BytesIO:
        return io.BytesIO(content) if block_size == 0 else FromTheBeginning(content)

    content = zip_of(tmp_path / "s.zip", {"a.png": png(picture(0), tmp_path)}).read_bytes()
    memory.pipe("/s.zip", content)
    monkeypatch.setattr(memory, "open", open_as_http_does)
    place = RemotePlace(memory, "/s.zip", "http://host/s.zip")
    (found,) = read_samples([File(place)], purpose="train")
    assert found.name == "http://host/s.zip:a.png"
    assert isinstance(found, Sample)


@pytest.mark.parametrize(
    ("url", "filename", "beside"),
    [
        ("http://host/t.tar?download=true", "t.tar", "http://host/other?download=true"),
        ("https://host/a/t.zip?from=x/y#part", "t.zip", "https://host/a/other?from=x/y#part"),
        ("https://host/a/", "a", "https://host/a/other"),
        ("s3://bucket/odd?name#1.tar", "odd?name#1.tar", "s3://bucket/other"),
    ],
)
def test_what_is_asked_of_a_web_server_is_no_part_of_a_name(url: str, filename: str, beside: str) -> None:
    class System:
        def unstrip_protocol(self, path: str) -> str:
            return path

    place = RemotePlace(cast(Any, System()), url, url)
    assert place.filename == filename
    assert str(place.beside("other")) == beside


def test_a_url_that_cannot_be_read_is_an_error(memory: Any) -> None:
    with pytest.raises(DataError, match="there is no training data at memory://nowhere"):
        read("memory://nowhere/at.tar")
    with pytest.raises(DataError, match="there is no training data at memory://nowhere"):
        read("memory://nowhere")
    with pytest.raises(DataError, match=r"nonsense://x cannot be read: .*nonsense"):
        read("nonsense://x")


def test_a_url_without_fsspec_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"crispen\[train\]"):
        read("memory://x")
