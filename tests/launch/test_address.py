"""The address of a Ray cluster is tried before Ray, which would wait for minutes."""

import socket
import threading

import pytest

from experiments import cli
from experiments.launch.address import check_answers
from experiments.launch.running import LaunchError

SETTINGS = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]) + bytes(6)


@pytest.fixture
def answering():
    """The address of a server that says something to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(said: bytes) -> str:
            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(64)
                    connection.sendall(said)

            threading.Thread(target=answer, daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        yield serve


@pytest.fixture
def nobody():
    """An address at which nobody answers: the port is taken, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_where_nobody_is_nothing_is_waited_for(nobody):
    for address in (nobody, f"ray://{nobody}", "127.0.0.1:99999999"):
        with pytest.raises(LaunchError, match=f"no Ray cluster answers at '{address}'"):
            check_answers(address)


def test_who_does_not_answer_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LaunchError, match="timed out"):
            check_answers(address, seconds=0.05)


def test_another_server_is_no_cluster(answering):
    with pytest.raises(LaunchError, match="is no Ray cluster"):
        check_answers(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_what_speaks_as_a_cluster_does_is_left_to_ray(answering, nobody, monkeypatch):
    check_answers(answering(SETTINGS))
    for address in ("auto", "head-node", "[::1]"):
        check_answers(address)
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    with pytest.raises(LaunchError, match=nobody):
        check_answers("auto")


def test_an_address_without_a_cluster_is_one_sentence(nobody, tmp_path, capsys):
    out = tmp_path / "run"
    for command in (["launch", "searchers", "--scale", "smoke"], ["sweep"]):
        assert cli.main([*command, "--ray", nobody, "--out", str(out)]) == cli.USER_ERROR
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"pfrl: no Ray cluster answers at '{nobody}'")
    assert not out.exists()
