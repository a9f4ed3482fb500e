"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from crispen.errors import DataError
from crispen.files import published
from files import pipe


def test_a_file_appears_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with published(path, error=DataError) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.suffix == ".bin"
        assert temporary.parent == tmp_path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path, failure: type[BaseException]) -> None:
    with published(path, error=DataError) as temporary:
        temporary.write_bytes(b"half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt])
def test_after_a_failure_the_old_file_stands(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(DataError if failure is OSError else failure):
        write_half(path, failure)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/a.bin", "file/a.bin", "a" * 255 + ".bin"])
def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"a\.bin cannot be written: \w"),
        published(tmp_path / place, error=DataError) as temporary,
    ):
        temporary.write_bytes(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_it_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with published(tmp_path / "a.bin", error=DataError) as temporary:
        temporary.touch()
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_pipe_is_never_replaced(tmp_path: Path, meanwhile: bool) -> None:
    path = tmp_path / "a.bin"
    if not meanwhile:
        pipe(path)

    def write() -> None:
        with published(path, error=DataError) as temporary:
            temporary.write_bytes(b"new")
            pipe(path)

    with pytest.raises(DataError, match=r"a\.bin is a pipe, and only files are replaced$"):
        write()
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]
