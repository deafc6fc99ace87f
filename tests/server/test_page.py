"""GET / in a real browser (the distribution's chromium, headless), and without JavaScript. Without a browser the tests of it
are skipped, and say so."""
import html
import re
import shutil
import subprocess

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(not BROWSER, reason="no chromium: the page was not looked at in a browser")
FIGURE = r'<span [^>]*data-v="?{}"?(?: [^>]*)?>([^<]*)</span>'


def shown(text, path):
    return html.unescape(re.search(FIGURE.format(re.escape(path)), text)[1])


def browse(server, folder, *options, path="/"):
    """The page as the browser has it after three seconds of its own time, and what it wrote."""
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                           f"--user-data-dir={folder}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000",
                           *options, server.url + path], capture_output=True, timeout=300)
    return done.stdout.decode(), done.stderr.decode("utf-8", "replace")


def asked(server):
    """How often each route was asked, as the server counts."""
    return {m[1]: int(m[2]) for m in re.finditer(r'^rocmforge_http_responses_total\{route="([^"]+)",status="\d+"\} (\d+)',
                                                 server.get("/metrics").text, re.M)}


@pytest.fixture
def busy(serve):
    """A server that was asked something."""
    s = serve("-c", 512, "--alias", "a <model> & co")
    for _ in range(2):
        assert s.post("/generate", {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "ignore_eos": True}).status == 200
    return s


def check_contents(text, server):
    health = server.get("/health").json
    assert "<h1>a &lt;model&gt; &amp; co</h1>" in text
    assert shown(text, "status") == "healthy" and shown(text, "device.name") == health["device"]["name"]
    assert shown(text, "device.reason") == health["device"]["reason"]
    assert shown(text, "totals.completed") == "2" and shown(text, "totals.generated_tokens") == "8"
    assert shown(text, "checks.requests.active") == "0" and shown(text, "limits.parallel") == "8"
    for route in ("POST /generate", "POST /v1/chat/completions", "POST /completion", "GET /metrics", "GET /health"):
        assert f"<code>{route}</code>" in text


@needs_browser
def test_in_a_browser(busy, tmp_path):
    text, said = browse(busy, tmp_path, "--dump-dom")
    check_contents(text, busy)
    assert "CONSOLE" not in said, said  # neither an error nor a word
    routes = asked(busy)
    assert routes["/"] == 1 and routes["/health"] >= 2  # the script asks for newer figures (once is this test's)
    assert set(routes) <= {"/", "/health", "/generate", "/metrics", "none"}


@needs_browser
def test_its_figures_are_fresh(serve, tmp_path):
    """What the script shows is what /health says, not what the page was sent with."""
    s = serve("-c", 512)
    text, _ = browse(s, tmp_path, "--dump-dom")
    assert int(shown(text, "connections")) >= 1
    assert re.search(r'<p id="note">([^<]*)</p>', text)[1] == ""
    s.end()
    fresh, _ = browse(s, tmp_path, "--dump-dom")
    assert "data-v" not in fresh  # nothing of the page is kept when the server is gone


@needs_browser
def test_it_asks_nobody_else(busy, tmp_path):
    """Every address but the server's own is a dead end for this browser; the page is the same, and nothing failed to load."""
    log = tmp_path / "net.json"
    text, said = browse(busy, tmp_path, "--dump-dom", f"--log-net-log={log}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    check_contents(text, busy)
    assert "ERR_" not in said.replace("ERR_NAME_NOT_RESOLVED", "")  # the browser's own errands fail, the page's do not
    page = [url for url in re.findall(r'"url":"(https?://[^"]+)"', log.read_text()) if "127.0.0.1" in url]
    assert page and all(url.startswith(busy.url + "/") for url in page)
    referred = re.findall(r'(?:src|href)="?([^" >]+)', text)
    assert not referred


@pytest.mark.smoke
def test_without_javascript(busy):
    text = busy.get("/").text
    check_contents(text, busy)
    assert "<noscript>" in text
