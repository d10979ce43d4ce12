"""Archives of a few invented stays with the quirks of the real ones, and a server on loopback."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest

from latentode.datasets import PHYSIONET2012_CHANNELS, download, fetch_physionet2012, physionet2012
from latentode.exceptions import DataError

STAYS = {
    "a": {
        # a repeated parameter in one minute, an outlier, values at 00:00 before the weight
        101: "00:00,Age,54 00:00,Gender,0 00:00,HR,70 00:00,Height,-1 00:00,ICUType,4 00:00,Weight,80.5 "
        "00:07,HR,73 00:07,HR,75 00:07,pH,735 26:30,Temp,-17.8 48:00,Na,137",
        # nothing was ever measured, and the weight is unknown
        102: "00:00,Age,60 00:00,Gender,-1 00:00,Height,170.2 00:00,ICUType,1 00:00,Weight,-1",
    },
    "c": {
        # no parameter name; -1 that is a (bad) measurement, not the mark of a missing descriptor
        202: "00:00,Age,71 00:00,Gender,1 00:00,Height,180 00:00,ICUType,2 00:00,Weight,-1 "
        "01:00,,3.1 01:00,DiasABP,-1 01:00,Weight,77",
        201: "00:00,Age,33 00:00,Gender,1 00:00,Height,-1 00:00,ICUType,3 00:00,Weight,91 00:00,Weight,92",
    },
}
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def record(stay: int, lines: str) -> bytes:
    return "\n".join(["Time,Parameter,Value", f"00:00,RecordID,{stay}", *lines.split(), ""]).encode()


def archive(folder: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, content in members.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def members_of(name: str) -> dict[str, bytes]:
    return {f"{stay}.txt": record(stay, lines) for stay, lines in STAYS[name].items()}


def digest(members: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(n.encode() + b"\0" + members[n] for n in sorted(members))).hexdigest()


@pytest.fixture(autouse=True)
def _invented_stays_count_as_published(monkeypatch):
    monkeypatch.setattr(physionet2012, "DIGESTS", {name: digest(members_of(name)) for name in STAYS})
    monkeypatch.setattr(physionet2012, "N_RECORDS", 2)
    monkeypatch.delenv(download.HOME_VARIABLE, raising=False)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(self, url, output_file, caller):
        Path(output_file).write_bytes(b"half a fi")
        raise OSError("Network is unreachable")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)


def write_files(home: Path) -> Path:
    """The published files of the invented stays, in a folder `physionet2012` of `home`."""
    folder = home / "physionet2012"
    folder.mkdir(parents=True)
    for name, stays in STAYS.items():
        (folder / f"set-{name}.tar.gz").write_bytes(archive(f"set-{name}", members_of(name)))
        rows = [f"{stay},{stay % 100},8,9,-1,{i}\n" for i, stay in enumerate(sorted(stays))]
        (folder / f"Outcomes-{name}.txt").write_text(OUTCOMES + "".join(rows))
    return home


@pytest.fixture
def home(tmp_path):
    return write_files(tmp_path / "home")


def observed(row: pd.Series) -> dict[str, float]:
    return {name: row[name] for name in row.index if name not in ("id", "time") and not np.isnan(row[name])}


def rows_of(data: pd.DataFrame, stay: int) -> list[tuple[float, dict[str, float]]]:
    return [(row["time"], observed(row)) for _, row in data[data["id"] == stay].iterrows()]


def test_series_keep_every_value_at_its_minute(home, no_network):
    data = fetch_physionet2012(sets=("a",), data_home=home).data
    assert list(data.columns) == ["id", "time", *PHYSIONET2012_CHANNELS]
    assert [data[column].dtype.kind for column in data] == ["i"] + ["f"] * 38
    assert rows_of(data, 101) == [
        (0.0, {"HR": 70, "Weight": 80.5}),
        (7 / 60, {"HR": 73, "pH": 735}),
        (7 / 60, {"HR": 75}),
        (26.5, {"Temp": -17.8}),
        (48.0, {"Na": 137}),
    ]
    assert set(data["id"]) == {101}, "a stay without measurements has no rows"


def test_there_are_37_channels():
    assert len(set(PHYSIONET2012_CHANNELS)) == 37
    assert PHYSIONET2012_CHANNELS[-1] == "Weight"
    assert not {"RecordID", "Age", "Gender", "Height", "ICUType"} & set(PHYSIONET2012_CHANNELS)


def test_quirks_of_set_c(home, no_network):
    stays = fetch_physionet2012("c", data_home=home)
    assert rows_of(stays.data, 201) == [(0.0, {"Weight": 91}), (0.0, {"Weight": 92})]
    assert rows_of(stays.data, 202) == [(1.0, {"DiasABP": -1, "Weight": 77})]
    assert stays.unnamed.to_dict("list") == {"id": [202], "time": [1.0], "value": [3.1]}
    assert stays.descriptors["Weight"].tolist() == pytest.approx([91, np.nan], nan_ok=True)


def test_descriptors_turn_minus_one_into_nan(home, no_network):
    descriptors = fetch_physionet2012(sets=("a",), data_home=home).descriptors
    expected = pd.DataFrame(
        {
            "id": [101, 102],
            "Age": [54.0, 60.0],
            "Gender": [0.0, np.nan],
            "Height": [np.nan, 170.2],
            "ICUType": [4.0, 1.0],
            "Weight": [80.5, np.nan],
        }
    )
    pd.testing.assert_frame_equal(descriptors, expected)


def test_descriptors_as_series_are_observed_at_time_zero(home, no_network):
    plain = fetch_physionet2012(sets=("a",), data_home=home).data
    data = fetch_physionet2012(sets=("a",), data_home=home, descriptors_as_series=True).data
    assert list(data.columns) == [*plain.columns, "Age", "Gender", "Height", "ICUType"]
    assert rows_of(data, 101)[0] == (0.0, {"HR": 70, "Weight": 80.5, "Age": 54, "Gender": 0, "ICUType": 4})
    assert rows_of(data, 101)[1:] == rows_of(plain, 101)[1:]
    assert rows_of(data, 102) == [(0.0, {"Age": 60, "Height": 170.2, "ICUType": 1})]


def test_sets_are_stacked_in_the_order_given(home, no_network):
    both = fetch_physionet2012(sets=("c", "a"), data_home=home)
    one = {name: fetch_physionet2012(sets=[name], data_home=home) for name in "ca"}
    for table in ("data", "outcomes", "descriptors", "unnamed"):
        parts = [getattr(one[name], table) for name in "ca"]
        pd.testing.assert_frame_equal(getattr(both, table), pd.concat(parts, ignore_index=True))
    assert both.outcomes["id"].tolist() == both.descriptors["id"].tolist() == [201, 202, 101, 102]


def test_outcomes_are_as_published_in_the_order_of_the_stays(home, no_network):
    file = home / "physionet2012" / "Outcomes-a.txt"
    file.write_text(OUTCOMES + "102,16,8,9,500,1\n101,6,-1,9,-1,0\n")
    outcomes = fetch_physionet2012(sets=("a",), data_home=home).outcomes
    assert list(outcomes.columns) == ["id", *OUTCOMES.strip().split(",")[1:]]
    assert outcomes.to_numpy().tolist() == [[101, 6, -1, 9, -1, 0], [102, 16, 8, 9, 500, 1]]


@pytest.mark.parametrize("sets", [(), ("a", "d"), ("a", "a"), "ac", ("ac",)])
def test_unknown_sets_are_refused(sets, home):
    with pytest.raises(ValueError, match=r"sets must name one or more of a, c, each once; got"):
        fetch_physionet2012(sets, data_home=home)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def break_the_stream(content: bytes) -> bytes:
    return content[:10] + b"\xff" + content[11:]  # a first block of a kind that does not exist


def without_a_member(content: bytes) -> bytes:
    return archive("set-a", {"101.txt": members_of("a")["101.txt"]})


def with_another_value(content: bytes) -> bytes:
    return archive("set-a", members_of("a") | {"102.txt": record(102, "00:00,Age,61")})


BAD_ARCHIVES = [
    (cut, "corrupt or cut short"),
    (flip_a_byte, "corrupt or cut short"),
    (break_the_stream, "corrupt or cut short"),
    (lambda content: b"", "corrupt or cut short"),
    (lambda content: b"<html>come back later</html>", "corrupt or cut short"),
    (without_a_member, r"holds 1 records \(\*\.txt\) where the published set has 2"),
    (with_another_value, "content differs from the published set"),
]
BAD_OUTCOMES = [
    (lambda content: b"", "not a table of outcomes"),
    (lambda content: b"<html>come back later</html>", "first line should be RecordID,SAPS-I,.* it is <html>"),
    (lambda content: content[:-3], "missing or non-integer outcomes, so it is corrupt or cut short"),
    (
        lambda content: content[: content.index(b"102")],
        "1 rows where the set has 2 stays; stay 102 is missing",
    ),
    (
        lambda content: content.replace(b"102", b"999"),
        "2 rows where the set has 2 stays; stay 102 is missing",
    ),
    (
        lambda content: content + b"103,1,2,3,4,0\n",
        "3 rows where the set has 2 stays; some are not of this set",
    ),
]
BAD_FILES = [("set-a.tar.gz", *bad) for bad in BAD_ARCHIVES] + [
    ("Outcomes-a.txt", *bad) for bad in BAD_OUTCOMES
]


@pytest.mark.parametrize(("file", "spoil", "text"), BAD_FILES)
def test_a_bad_file_of_the_user_is_named_and_kept(file, spoil, text, home, no_network):
    path = home / "physionet2012" / file
    path.write_bytes(spoil(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(
        DataError, match=rf"{file} is not usable: .*{text}.*Delete it .* good copy of https://"
    ):
        fetch_physionet2012(sets=("a",), data_home=home)
    assert path.read_bytes() == before


class Handler(http.server.SimpleHTTPRequestHandler):
    requested: Counter[str]
    announced_extra = 0

    def do_GET(self) -> None:
        self.requested[self.path] += 1
        super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            value = str(int(value) + self.announced_extra)
        super().send_header(keyword, value)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A server that plays physionet.org: its folder of files, and how often each was asked for."""
    folder = write_files(tmp_path / "server") / "physionet2012"
    handler = type("Source", (Handler,), {"requested": Counter()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    monkeypatch.setattr(physionet2012, "URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    handler.folder = folder
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_files_are_downloaded_once(source, tmp_path, home):
    fetched = fetch_physionet2012(sets=("a",), data_home=tmp_path / "new")
    again = fetch_physionet2012(sets=("a",), data_home=tmp_path / "new")
    assert source.requested == {"/set-a.tar.gz": 1, "/Outcomes-a.txt": 1}
    assert files_in(tmp_path / "new") == {"set-a.tar.gz", "Outcomes-a.txt"}
    for table, same in zip(fetched, again, strict=True):
        pd.testing.assert_frame_equal(table, same)
    pd.testing.assert_frame_equal(fetched.data, fetch_physionet2012("a", data_home=home).data)


@pytest.mark.parametrize(("file", "spoil", "text"), BAD_FILES)
def test_a_bad_download_leaves_nothing_behind(file, spoil, text, source, tmp_path):
    path = source.folder / file
    good = path.read_bytes()
    path.write_bytes(spoil(good))
    new = tmp_path / "new"
    with pytest.raises(
        DataError, match=f"download of http.*{file} is not usable: .*{text}.*Nothing was kept"
    ):
        fetch_physionet2012(sets=("a",), data_home=new)
    assert files_in(new) == ({"set-a.tar.gz"} if file.startswith("Outcomes") else set())
    path.write_bytes(good)
    assert len(fetch_physionet2012(sets=("a",), data_home=new).outcomes) == 2


def test_a_connection_that_breaks_off_leaves_nothing_behind(source, tmp_path):
    source.announced_extra = 10_000
    with pytest.raises(OSError, match=r"set-a.tar.gz could not be downloaded from http"):
        fetch_physionet2012(sets=("a",), data_home=tmp_path / "new")
    assert files_in(tmp_path / "new") == set()


def test_a_file_that_is_gone_from_the_source(source, tmp_path):
    (source.folder / "set-c.tar.gz").unlink()
    with pytest.raises(OSError, match=r"set-c.tar.gz could not be downloaded from http.*404"):
        fetch_physionet2012("c", data_home=tmp_path / "new")


def test_without_network_the_message_says_where_to_put_the_file(no_network, tmp_path):
    with pytest.raises(OSError) as caught:
        fetch_physionet2012(sets=("a",), data_home=tmp_path / "new")
    for part in (
        "set-a.tar.gz could not be downloaded",
        "https://physionet.org/files/challenge-2012/1.0.0/set-a.tar.gz",
        "Network is unreachable",
        f"put it in the folder {tmp_path / 'new' / 'physionet2012'}",
        "$LATENTODE_DATA_HOME",
    ):
        assert part in str(caught.value)
    assert files_in(tmp_path / "new") == set()


def test_data_home_is_argument_then_variable_then_cache(monkeypatch, tmp_path):
    assert download.data_home() == Path(pooch.os_cache("latentode"))
    monkeypatch.setenv(download.HOME_VARIABLE, str(tmp_path))
    assert download.data_home() == tmp_path
    assert download.data_home(tmp_path / "other") == tmp_path / "other"
    assert download.data_home("~/data") == Path.home() / "data"
    monkeypatch.setenv(download.HOME_VARIABLE, "")
    assert download.data_home() == Path(pooch.os_cache("latentode"))


def test_the_variable_is_used(home, no_network, monkeypatch):
    monkeypatch.setenv(download.HOME_VARIABLE, str(home))
    assert len(fetch_physionet2012(sets=("a",)).outcomes) == 2
