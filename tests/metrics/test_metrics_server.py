"""The one port that a node opens: bounded, and free when its node is gone."""

import os
import socket
import threading
import urllib.request

import pytest

from tests.metrics.scraping import samples_in, value_of
from workers.metrics import StoreCollector
from workers.metrics_server import MetricsServer


def test_the_server_answers_with_what_the_collector_tells(collector: StoreCollector) -> None:
    server = MetricsServer("127.0.0.1", 0, collector)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert value_of(samples_in(answer.read().decode()), "taskvisor_store_up") == 1
    finally:
        server.close()


def test_who_says_nothing_does_not_keep_the_others_waiting_for_good(
    collector: StoreCollector, capfd: pytest.CaptureFixture[str]
) -> None:
    server = MetricsServer("127.0.0.1", 0, collector)
    try:
        with (
            socket.create_connection(("127.0.0.1", server.port)),
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer,
        ):
            assert answer.status == 200
    finally:
        server.close()
    assert "Traceback" not in capfd.readouterr().err


def test_who_speaks_without_end_is_hung_up_on(collector: StoreCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.metrics_server.REQUEST_LIMIT_S", 1.0)
    server, stopped = MetricsServer("127.0.0.1", 0, collector), threading.Event()
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as first:
            first.sendall(b"G")  # before the other one asks
            speaking = threading.Thread(target=speak, args=(first, stopped))
            speaking.start()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
                assert answer.status == 200
            stopped.set()
            speaking.join()
    finally:
        stopped.set()
        server.close()


def speak(connection: socket.socket, stopped: threading.Event) -> None:
    """A word every now and then, and never an end of the line."""
    while not stopped.wait(0.1):
        try:
            connection.sendall(b"E")
        except OSError:
            return


def test_a_port_that_is_taken_is_an_error_at_once(collector: StoreCollector) -> None:
    server = MetricsServer("127.0.0.1", 0, collector)
    try:
        with pytest.raises(OSError, match="in use"):
            MetricsServer("127.0.0.1", server.port, collector)
    finally:
        server.close()


def test_a_process_forked_later_does_not_hold_the_port(collector: StoreCollector) -> None:
    server = MetricsServer("127.0.0.1", 0, collector)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    try:
        server.close()
        MetricsServer("127.0.0.1", server.port, collector).close()
    finally:
        os.write(writing, b".")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
