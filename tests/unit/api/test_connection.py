"""Credentials and transport, against a small real HTTP server on the loopback interface."""

from __future__ import annotations

import base64
import http.server
import json
import queue
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from ovsnet.api import NODE, CredentialsError, Synced, Timing, Watch, connect
from ovsnet.api.connection import StalledError, UnreachableError

PATIENCE = 20
QUERY = (("limit", "5"), ("fieldSelector", "metadata.name=a b"))
EMPTY = b'{"metadata":{"resourceVersion":"5"},"items":null}'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.put((self.path, dict(self.headers)))
        if server.tokens and self.headers.get("Authorization") not in server.tokens:
            self.reply(401, b'{"kind":"Status","message":"Unauthorized"}')
        elif "watch=true" in self.path or self.path.startswith("/hang"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.chunk(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"6"}}}\n')
            server.hanging.set()
            server.release.wait(PATIENCE)
            if not self.path.startswith("/hang/broken"):
                self.chunk(b"")
            self.close_connection = True
        elif self.path.startswith("/busy"):
            self.reply(429, b"{}", {"Retry-After": "7"})
        elif self.path.startswith("/moved"):
            self.reply(302, b"", {"Location": "http://127.0.0.1:1/"})
        else:
            self.reply(200, EMPTY)

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.requests.put((self.command, self.path, self.headers["Content-Type"], body))
        if server.tokens and self.headers.get("Authorization") not in server.tokens:
            self.reply(401, b"{}")
        else:
            self.reply(201, b'{"count":1}')

    do_PATCH = do_POST  # noqa: N815

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *args):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server():
    made = QuietServer(("127.0.0.1", 0), Handler)
    made.requests = queue.Queue()
    made.tokens = set()
    made.hanging = threading.Event()
    made.release = threading.Event()
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()


def kubeconfig(path, server, user=None, **cluster):
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "u", "user": user or {}}],
            }
        )
    )
    return path


def body_of(response):
    try:
        return b"".join(response.chunks())
    finally:
        response.close()


def test_a_request(server, tmp_path):
    connection = connect(kubeconfig(tmp_path / "k", server.url + "/prefix/", {"token": "t1"}))
    response = connection.get("/api/v1/nodes", QUERY, 5.0)
    assert (response.status, response.retry_after) == (200, 0.0)
    assert body_of(response) == EMPTY
    path, headers = server.requests.get(timeout=PATIENCE)
    assert path == "/prefix/api/v1/nodes?limit=5&fieldSelector=metadata.name%3Da+b"
    assert {k.lower(): v for k, v in headers.items()}["authorization"] == "Bearer t1"
    assert headers["Accept"] == "application/json"


def test_a_token_that_was_replaced_in_its_file_is_read_again(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")
    server.tokens = {"Bearer old"}
    connection = connect(kubeconfig(tmp_path / "k", server.url, {"tokenFile": "token"}))
    assert connection.get("/x", (), 5.0).status == 200
    token.write_text("new\n")
    server.tokens = {"Bearer new"}
    assert connection.get("/x", (), 5.0).status == 200
    server.tokens = {"Bearer other"}
    assert connection.get("/x", (), 5.0).status == 401
    token.unlink()
    with pytest.raises(UnreachableError, match="token"):
        connection.get("/x", (), 5.0)
    token.write_text("other")
    assert connection.get("/x", (), 5.0).status == 200


def test_objects_are_created_and_changed(server, tmp_path):
    connection = connect(kubeconfig(tmp_path / "k", server.url + "/prefix/"))
    for send, verb, kind in (
        (connection.post, "POST", "application/json"),
        (connection.patch, "PATCH", "application/merge-patch+json"),
    ):
        response = send("/api/v1/events", b'{"count":1}', 5.0)
        assert response.status == 201
        assert body_of(response) == b'{"count":1}'
        seen = server.requests.get(timeout=PATIENCE)
        assert seen == (verb, "/prefix/api/v1/events", kind, b'{"count":1}')


def test_what_was_refused_for_an_old_token_is_sent_again_with_the_new_one(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    connection = connect(kubeconfig(tmp_path / "k", server.url, {"tokenFile": "token"}))
    token.write_text("new")
    server.tokens = {"Bearer new"}
    assert connection.post("/x", b"{}", 5.0).status == 201
    assert [server.requests.get(timeout=PATIENCE)[-1] for _ in range(2)] == [b"{}", b"{}"]


def test_nobody_there_to_write_to(tmp_path):
    connection = connect(kubeconfig(tmp_path / "k", nobody_there()))
    for send in (connection.post, connection.patch):
        with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1"):
            send("/x", b"{}", 5.0)


def test_a_server_that_wants_to_be_left_alone(server, tmp_path):
    response = connect(kubeconfig(tmp_path / "k", server.url)).get("/busy", (), 5.0)
    assert (response.status, response.retry_after) == (429, 7.0)


def test_no_redirect_is_followed(server, tmp_path):
    """Our token would go along."""
    assert connect(kubeconfig(tmp_path / "k", server.url)).get("/moved", (), 5.0).status == 302


def test_nobody_there(tmp_path):
    connection = connect(kubeconfig(tmp_path / "k", nobody_there()))
    with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1"):
        connection.get("/x", (), 5.0)


def test_a_stream_that_stalls(server, tmp_path):
    response = connect(kubeconfig(tmp_path / "k", server.url)).get("/hang", (), 0.2)
    chunks = response.chunks()
    assert b"BOOKMARK" in next(chunks)
    with pytest.raises(StalledError):
        next(chunks)
    response.close()


def test_a_stream_that_breaks_off(server, tmp_path):
    response = connect(kubeconfig(tmp_path / "k", server.url)).get("/hang/broken", (), PATIENCE)
    chunks = response.chunks()
    next(chunks)
    server.release.set()
    with pytest.raises(UnreachableError, match="broke off"):
        next(chunks)
    response.close()


def test_stopping_a_watch_of_a_real_stream(server, tmp_path):
    events = queue.Queue()
    connection = connect(kubeconfig(tmp_path / "k", server.url))
    watch = Watch(connection, NODE, events.put)
    watch.start()
    assert events.get(timeout=PATIENCE) == Synced(NODE, {})
    assert server.hanging.wait(PATIENCE)
    watch.stop()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()
    connection.close()


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """One self-signed certificate that serves as CA, server and client."""
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            "-keyout key.pem -out cert.pem -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
        ),
        cwd=place,
        check=True,
        capture_output=True,
    )
    return place


@needs_openssl
def test_tls_with_a_client_certificate(server, tmp_path, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.load_verify_locations(certificates / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")

    def data(name):
        return base64.b64encode((certificates / name).read_bytes()).decode()

    ours = {"client-certificate-data": data("cert.pem"), "client-key-data": data("key.pem")}
    authority = {"certificate-authority": str(certificates / "cert.pem")}
    connection = connect(kubeconfig(tmp_path / "k", url, ours, **authority))
    assert connection.get("/x", (), 5.0).status == 200

    events = queue.Queue()
    watch = Watch(connection, NODE, events.put, timing=Timing())
    watch.start()
    assert events.get(timeout=PATIENCE) == Synced(NODE, {})
    assert server.hanging.wait(PATIENCE)
    watch.stop()
    watch._thread.join(PATIENCE)
    assert not watch._thread.is_alive()

    for user, cluster in (({}, authority), (ours, {})):
        stranger = connect(kubeconfig(tmp_path / "k2", url, user, **cluster))
        with pytest.raises(UnreachableError):
            stranger.get("/x", (), 5.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("", "k: "),
        ("{]", "k: "),
        ("apiVersion: v1\nkind: Config\n", "current-context"),
        ("current-context: c\ncontexts: []\nclusters: []\nusers: []\n", "c"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(content, words, tmp_path):
    path = tmp_path / "k"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CredentialsError) as caught:
        connect(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_certificate_that_is_missing_is_named(tmp_path):
    path = kubeconfig(tmp_path / "k", "https://127.0.0.1:1", **{"certificate-authority": "ca.crt"})
    with pytest.raises(CredentialsError, match=r"ca\.crt"):
        connect(path)


def test_no_credentials_at_all(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CredentialsError, match="no kubeconfig was given, and this is no pod"):
        connect()


def test_a_pod_without_a_service_account(monkeypatch):
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        pytest.skip("this is a pod with a service account")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(CredentialsError, match="service account of this pod"):
        connect()


def test_a_service_account_s_token_is_followed(server, tmp_path, monkeypatch):
    """The client reads it again every minute; a token refused before that is read at once."""
    account(tmp_path, monkeypatch, server.url)
    server.tokens = {"bearer first"}
    connection = connect()
    assert connection.get("/x", (), 5.0).status == 200
    (tmp_path / "token").write_text("second")
    server.tokens = {"bearer second"}
    assert connection.get("/x", (), 5.0).status == 200


def test_an_api_server_that_is_named_is_the_one_whatever_the_service_account_says(
    server, tmp_path, monkeypatch
):
    """Also after the client has read the token, which sets the service account's own again."""
    account(tmp_path, monkeypatch, nobody_there())
    server.tokens = {"bearer first"}
    connection = connect(None, server.url + "/")
    for _ in range(3):
        assert connection.get("/x", (), 5.0).status == 200


def nobody_there():
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def account(tmp_path, monkeypatch, url):
    """A pod's service account whose API server is said to be at `url`."""
    from kubernetes.config import incluster_config

    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("unused")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(
        incluster_config.InClusterConfigLoader,
        "_set_config",
        _without_tls(incluster_config.InClusterConfigLoader._set_config, url),
    )


def _without_tls(set_config, url):
    def patched(self, configuration):
        self.host = url
        self.ssl_ca_cert = None
        set_config(self, configuration)

    return patched


def test_the_kubernetes_package_is_not_loaded_before_a_connection_is_made():
    code = "import sys, ovsnet.api, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(out.stdout)}
    assert not loaded & {"kubernetes", "urllib3", "requests", "yaml"}
