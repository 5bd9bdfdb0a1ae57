"""Downloads, against a server on this machine that has good, wrong, truncated and missing files."""

import gzip
import http.server
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_idx import arrays, idx, refused, small  # noqa: F401

from diffusion_cli.dataset import download
from diffusion_cli.dataset.download import Unreachable, fetch
from diffusion_cli.dataset.places import Source
from diffusion_cli.errors import ArgumentError, Interrupted, UserError
from diffusion_cli.runs.signals import Stop

GOOD = b"just what was wanted" * 5000


def check(file, name):
    if file.read_bytes() != GOOD:
        raise ArgumentError("root", ..., f"{file}: wrong checksum")


@pytest.fixture(scope="module")
def server():
    """A server whose `files` map a path to content, or to (content, announced length); it counts its `requests`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            content = self.server.files.get(self.path)
            if content is None:
                return self.send_error(404)
            content, length = content if isinstance(content, tuple) else (content, len(content))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.url = f"http://127.0.0.1:{made.server_port}/"
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def fresh(server, monkeypatch):
    server.files, server.requests = {"/good/file": GOOD}, []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def left(folder):
    return {path.name for path in folder.rglob("*") if not path.name.endswith(".lock")}


def test_the_first_mirror_with_the_right_file_is_taken(server, tmp_path):
    server.files |= {
        "/wrong/file": GOOD[:-1] + b"!",
        "/half/file": (GOOD[: len(GOOD) // 2], len(GOOD)),  # the connection ends early
        "/short/file": GOOD[: len(GOOD) // 2],  # and here it even says so
        "/empty/file": b"",
    }
    names = ["missing", "wrong", "half", "short", "empty", "good", "never"]
    file = fetch("file", [f"{server.url}{name}/" for name in names], tmp_path / "data", check)
    assert file == tmp_path / "data" / "file" and file.read_bytes() == GOOD
    assert server.requests == [f"/{name}/file" for name in names[:-1]]
    assert left(tmp_path) == {"data", "file"}


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "file").write_bytes(b"ours")
    assert fetch("file", [f"{server.url}good/"], tmp_path, check).read_bytes() == b"ours"
    assert server.requests == []


def test_several_that_want_one_file_fetch_it_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: fetch("file", [f"{server.url}good/"], tmp_path, check), range(4)))
    assert {file.read_bytes() for file in files} == {GOOD} and server.requests == ["/good/file"]


def test_what_a_killed_download_left_is_not_taken_for_the_file(server, tmp_path):
    (tmp_path / ".file.part").write_bytes(GOOD + b"of another time")
    assert fetch("file", [f"{server.url}good/"], tmp_path, check).read_bytes() == GOOD
    assert left(tmp_path) == {"file"}


def test_when_no_mirror_has_it_nothing_is_left(server, tmp_path):
    server.files["/wrong/file"] = b"something else"
    mirrors = [f"{server.url}missing/", f"{server.url}wrong/", "http://127.0.0.1:1/"]
    with pytest.raises(Unreachable) as caught:
        fetch("file", mirrors, tmp_path, check)
    for part in ("missing/: 404", "wrong/: wrong checksum", "http://127.0.0.1:1/: Connection refused"):
        assert part in str(caught.value)
    assert left(tmp_path) == set()


def test_a_full_disk_is_not_the_mirrors_fault(server, tmp_path, monkeypatch):
    def full(url, file):
        file.write_bytes(GOOD[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_retrieve", full)
    mirrors = [f"{server.url}good/"] * 2
    parts = (tmp_path / "file", "No space left on device")
    refused(lambda: fetch("file", mirrors, tmp_path, check), *parts, error=UserError)
    assert left(tmp_path) == set()


def mirrored(monkeypatch, dataset, *mirrors):
    monkeypatch.setattr(dataset, "origin", Source("MNIST", ("mnist",), mirrors))


def test_mnist_is_downloaded_into_the_cache_once(server, small, arrays, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path))
    mirrored(monkeypatch, small, f"{server.url}bad/", f"{server.url}mnist/")
    for name, array in arrays.items():
        server.files[f"/bad/{name}.gz"] = gzip.compress(idx(array))[:-4]
        server.files[f"/mnist/{name}.gz"] = gzip.compress(
            idx(array), compresslevel=1
        )  # other bytes, same content
    first = small()
    assert len(server.requests) == 8
    assert left(tmp_path) == {"mnist", *(f"{name}.gz" for name in arrays)}
    assert small().fingerprint == first.fingerprint and len(server.requests) == 8
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    small()
    assert server.requests[8:] == ["/bad/train-images-idx3-ubyte.gz", "/mnist/train-images-idx3-ubyte.gz"]


def test_without_network_one_line_tells_which_files_to_put_where(small, arrays, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path))
    mirrored(monkeypatch, small, "http://127.0.0.1:1/", "http://127.0.0.1:2/")
    refused(small, *arrays, "into a folder mnist", "DIFFUSION_CLI_DATA or dataset.root", "Connection refused")
    assert left(tmp_path) <= {"mnist"}


def test_a_root_without_the_files_is_no_reason_to_download(server, small, tmp_path, monkeypatch):  # noqa: F811
    mirrored(monkeypatch, small, f"{server.url}mnist/")
    refused(lambda: small(str(tmp_path)), f"root={tmp_path}: MNIST is not there")
    assert server.requests == []


def test_a_file_that_does_not_end_or_takes_too_long_is_left(server, tmp_path, monkeypatch):
    mirrors = [f"{server.url}good/"]
    monkeypatch.setattr(download, "LARGEST", 2**16)
    with pytest.raises(Unreachable, match="is larger than 0 MB"):
        fetch("file", mirrors, tmp_path / "a", check)
    monkeypatch.setattr(download, "LARGEST", 2**30)
    monkeypatch.setattr(download, "LONGEST", -60)
    with pytest.raises(Unreachable, match="takes longer than -1 minutes"):
        fetch("file", mirrors, tmp_path / "a", check)
    assert left(tmp_path / "a") == set()


def test_a_signal_ends_a_download(server, tmp_path):
    """It is seen at the next piece, and nothing is left."""
    with Stop() as stop:
        stop.signum = signal.SIGTERM
        with pytest.raises(Interrupted):
            fetch("file", [f"{server.url}good/"], tmp_path / "a", check)
    assert left(tmp_path / "a") == set() and Stop.current is None
    assert fetch("file", [f"{server.url}good/"], tmp_path / "a", check).read_bytes() == GOOD
