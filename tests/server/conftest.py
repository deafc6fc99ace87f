"""What the server tests share: a server that is started and ended properly, a raw socket, and the golden request.

RF_BUILD names the build folder, RF_SMOLLM2 the model; ./runtests sets both. Mark a test `smoke` to have it run in the
sanitizer build as well: it should take a second there, and measure neither time nor memory.

    def test_x(server):             one server for the file, with the real model and small limits
        server.get("/health").json
        server.post("/v1/completions", {...}, headers={...}).status
        with server.raw() as c:     bytes as they are
            c.send(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"); c.reply().status
        server.check()              it still answers /health, and the golden request with the golden text
    def test_y(serve):              a server with options of the test's own, ended with the test
        s = serve("--api-key", "secret", env={...})
"""
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))  # tiny_models

TIMEOUT = 120  # seconds of wall time: a hang, not a limit on speed
SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")
GOLDEN_PROMPT = "The capital of France is"
GOLDEN_TOKENS = 8


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: short; run in the sanitizer build as well")
    config.addinivalue_line("markers", "long: runs only in ./runtests --long")


def pytest_collection_modifyitems(items):
    if not os.environ.get("RF_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: ./runtests --long"))


class Reply:
    """One reply: status, headers (a list of pairs, names in lower case), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        found = [v for k, v in self.headers if k == name.lower()]
        assert len(found) < 2, f"{name} stands {len(found)} times"
        return found[0] if found else None

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()


class Raw:
    """A connection that sends what it is told and reads replies strictly."""

    def __init__(self, sock):
        self.sock, self.have = sock, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        """False: the server has already closed."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def send_bytewise(self, data):
        return all(self.send(data[i:i + 1]) for i in range(len(data)))

    def _more(self):
        got = self.sock.recv(65536)
        self.have += got
        return bool(got)

    def line(self):
        while b"\r\n" not in self.have:
            assert self._more(), f"closed in a line: {self.have!r}"
        line, self.have = self.have.split(b"\r\n", 1)
        return line

    def exactly(self, n):
        while len(self.have) < n:
            assert self._more(), f"closed after {len(self.have)} of {n} bytes"
        out, self.have = self.have[:n], self.have[n:]
        return out

    def rest(self):
        while self._more():
            pass
        out, self.have = self.have, b""
        return out

    def head(self):
        version, status, _ = self.line().decode("ascii").split(" ", 2)
        assert version == "HTTP/1.1"
        headers = []
        while line := self.line():
            name, value = line.decode("ascii").split(": ", 1)
            headers.append((name.lower(), value))
        return Reply(int(status), headers, b"")

    def chunk(self):
        """One chunk of a stream; b"" at its end."""
        n = int(self.line(), 16)
        data = self.exactly(n)
        assert self.line() == b""
        return data

    def reply(self, head_only=False):
        r = self.head()
        if head_only or r.status in (100, 204, 304):
            return r
        if r.header("transfer-encoding"):
            while part := self.chunk():
                r.body += part
        elif r.header("content-length") is not None:
            r.body = self.exactly(int(r.header("content-length")))
        else:
            r.body = self.rest()
        return r

    def closed(self):
        """Waits for the server to close; False when it sends something instead."""
        try:
            return not self.have and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


class Server:
    def __init__(self, binary, model, *args, env=None, before=None):
        self.log = tempfile.TemporaryFile()
        self.model, self.binary = model, binary
        self.signalled = self.ended = False
        self.process = subprocess.Popen([str(a) for a in (binary, "serve", model, "--port", 0, *args)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.log, env={**os.environ, **(env or {})},
                                        preexec_fn=before)
        self.url = self._wait_listening()
        self.scheme, rest = self.url.split("://")
        self.host, port = rest.rsplit(":", 1)
        self.port, self.headers = int(port), {}

    def stderr(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def wait_until(self, true, what):
        """For what comes soon but not at once. true: a function that is asked again and again."""
        until = time.monotonic() + TIMEOUT
        while not true():
            assert time.monotonic() < until, f"never came: {what}"
            time.sleep(0.02)

    def _wait_listening(self):
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            for line in self.stderr().splitlines(keepends=True):
                if line.startswith("listening on ") and line.endswith("\n"):
                    return line.split()[2]
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}: {self.stderr()[-2000:]}"
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"the server does not listen: {self.stderr()[-2000:]}")

    def connect(self, tls=None):
        sock = socket.create_connection((self.host.strip("[]"), self.port), timeout=TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scheme == "https" if tls is None else tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        return sock

    def raw(self, tls=None):
        return Raw(self.connect(tls))

    def request(self, method, path, body=None, headers=None):
        """A request on a connection of its own. body: bytes, or anything that JSON can hold."""
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        sent = {"Host": f"localhost:{self.port}", "Connection": "close", **self.headers}
        if raw is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        sent |= headers or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items() if v is not None), "", ""]
        with self.raw() as c:
            c.send("\r\n".join(lines).encode() + (raw or b""))
            return c.reply(head_only=method == "HEAD")

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def events(self, path, body, headers=None):
        """The data of each event of a stream, up to its end."""
        r = self.post(path, body, headers=headers)
        assert r.status == 200, r.text
        return [line[6:] for line in r.text.split("\n") if line.startswith("data: ")]

    def golden(self):
        """The text that the golden request must give: the command line's."""
        key = str(self.model)
        if key not in GOLDEN:
            done = subprocess.run([str(self.binary), "generate", key, "-p", GOLDEN_PROMPT, "-n", str(GOLDEN_TOKENS), "--temp", "0",
                                   "-q"], capture_output=True, check=True, timeout=TIMEOUT)
            GOLDEN[key] = done.stdout.decode().removesuffix("\n")
        return GOLDEN[key]

    def generates(self):
        return self.request("OPTIONS", "/v1/completions").status == 204

    def check(self):
        """The server lives: /health answers, and the golden request gives its text (once there is generation)."""
        assert self.get("/health").status == 200
        if not self.generates():
            return
        r = self.post("/v1/completions", {"prompt": GOLDEN_PROMPT, "max_tokens": GOLDEN_TOKENS, "temperature": 0})
        assert r.status == 200, r.text
        assert r.json["choices"][0]["text"] == self.golden()

    def signal(self, number=signal.SIGTERM):
        self.signalled = True
        self.process.send_signal(number)

    def end(self, wanted=0):
        """Ends it, unless it was told to, and checks that it ends well."""
        if self.ended:
            return
        self.ended = True
        if self.process.poll() is None and not self.signalled:
            self.signal()
        try:
            status = self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
        said = self.stderr()
        assert not any(w in said for w in SANITIZER_WORDS), said[-4000:]
        assert status == wanted, f"exit status {status}: {said[-2000:]}"


GOLDEN = {}


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ["RF_BUILD"])


@pytest.fixture(scope="session")
def binary(build):
    return build / "rocmforge"


@pytest.fixture(scope="session")
def smollm2():
    return pathlib.Path(os.environ["RF_SMOLLM2"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(architecture, type="Q4_K"): a random model of a few hundred kilobytes."""
    folder, made = tmp_path_factory.mktemp("tiny"), {}

    def get(arch, kind="Q4_K"):
        tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
        if (arch, kind) not in made:
            made[arch, kind] = tiny_models.make(folder / f"{arch}-{kind}.gguf", arch, kind)
        return made[arch, kind]

    return get


@pytest.fixture(scope="session")
def start(binary, smollm2):
    """start(*args, model=..., env=...): a server that the caller ends."""
    return lambda *args, model=None, **more: Server(binary, model or smollm2, *args, **more)


@pytest.fixture(scope="module")
def server(start):
    s = start("-c", 1024, "--parallel", 4)
    yield s
    s.end()


@pytest.fixture
def serve(start):
    running = []

    def run(*args, **more):
        running.append(start(*args, **more))
        return running[-1]

    yield run
    for s in running:
        s.end()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost and its key: two paths."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=TIMEOUT)
    return cert, key
