"""Whether a Ray cluster is where a user says: Ray itself would look for it for minutes."""

import os
import socket

from experiments.launch.running import LaunchError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a connection by HTTP/2 begins: a fixed line and a frame of settings (RFC 9113, 3.4), which
the other side answers with its own."""
ANSWER_SECONDS = 5.0
START_ONE = "start one with: ray start --head"


def check_answers(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """See to it that something at an address answers as a cluster does.

    Args:
      address: HOST:PORT, also after ray://; any other is left to Ray.
      seconds: to wait for the connection, and for its answer.

    Raises:
      LaunchError: if nothing answers, or something that does not speak HTTP/2.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return  # what it says cannot be read here
            connection.sendall(PREFACE)
            answer = connection.recv(len(PREFACE))
    except (OSError, OverflowError) as error:
        raise LaunchError(f"no Ray cluster answers at '{address}' ({error}); {START_ONE}") from None
    if answer[3:4] != b"\x04":
        raise LaunchError(
            f"what answers at '{address}' is no Ray cluster; give the address that 'ray start"
            " --head' said, such as 10.0.0.1:6379"
        )
