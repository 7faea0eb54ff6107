import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nnk.data import DataError, download

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /file, as badly as it is told to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.stop_after = []  # bytes to send in each transfer to come before the connection breaks
        self.knows_ranges = True
        self.gives_length = True
        self.failures = 0  # answers of 503 to come
        self.asked = []  # the Range header of each request

    def remote(self, path="file", content=CONTENT):
        return download.Remote(f"http://127.0.0.1:{self.server_port}/{path}", hashlib.md5(content).hexdigest())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if server.failures:
            server.failures -= 1
            self.send_error(503)
            return
        if self.path != "/file":
            self.send_error(404)
            return
        first = 0
        if self.headers["Range"] and server.knows_ranges:
            first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if first >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[first:]
        if server.gives_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.stop_after:
            body = body[: server.stop_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server, tmp_path):
    path = download.download(server.remote(), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "file"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file"]
    assert download.download(server.remote(), path.parent) == path
    assert server.asked == [None]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.stop_after = [300_000, 100_000]
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]
    assert names(tmp_path) == ["file"]


def test_what_came_before_giving_up_is_kept_for_the_next_call(server, tmp_path):
    server.stop_after = [300_000, 0, 0]
    with pytest.raises(DataError, match=r"after 300000 of 1000000 bytes. 300000 bytes are kept in .*file\.part"):
        download.download(server.remote(), tmp_path)
    assert names(tmp_path) == ["file.part"]
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"
    assert names(tmp_path) == ["file"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.knows_ranges = False
    server.stop_after = [300_000]
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT


def test_a_whole_part_is_only_checked(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000000-"]


def test_a_short_file_of_unknown_length_fails_its_sum(server, tmp_path):
    server.gives_length = False
    server.stop_after = [300_000]
    with pytest.raises(DataError, match="MD5"):
        download.download(server.remote(), tmp_path)


def test_a_wrong_file_is_deleted(server, tmp_path):
    remote = server.remote(content=b"something else")
    message = rf"its MD5 sum is {hashlib.md5(CONTENT).hexdigest()}, expected {remote.md5}. What came was deleted"
    with pytest.raises(DataError, match=message):
        download.download(remote, tmp_path)
    assert names(tmp_path) == []


def test_a_part_of_another_file_is_found_out_and_deleted(server, tmp_path):
    (tmp_path / "file.part").write_bytes(bytes(2000))
    with pytest.raises(DataError, match="try again"):
        download.download(server.remote(), tmp_path)
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_said_at_once(server, tmp_path):
    with pytest.raises(DataError, match=r"cannot download http://.*/nothing: the server says 404 Not Found"):
        download.download(server.remote("nothing"), tmp_path)
    assert server.asked == [None]
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.failures = 2
    assert download.download(server.remote(), tmp_path).read_bytes() == CONTENT
    server.failures = 3
    with pytest.raises(DataError, match="503"):
        download.download(server.remote(), tmp_path / "other")


def test_no_connection(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="0 bytes are kept"):
        download.download(server.remote(), tmp_path)


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*taken"):
        download.download(server.remote(), tmp_path / "taken")
