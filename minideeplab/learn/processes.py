"""The processes of a training: those that `torchrun` starts, and signals that ask one of them to stop."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed


def ranks() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def device() -> torch.device:
    """The GPU of this process, if torch sees one, else the CPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def processes(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, ranks): which process this is and how many `torchrun` started; they meet at the beginning and at the end."""
    if ranks() == 1:
        yield 0, 1
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """The numbers of SIGINT and SIGTERM as they arrive, for a loop to leave between two steps.

    A second SIGINT does what it did before, so that nobody has to wait; under `torchrun`, which passes signals on, it is
    noted as the first. In threads nothing changes.
    """
    asked, before = list[int](), dict[int, Any]()

    def note(number: int, frame: object) -> None:
        asked.append(number)
        if number == signal.SIGINT and ranks() == 1:
            signal.signal(number, before[number])

    try:
        if threading.current_thread() is threading.main_thread():
            for asking in (signal.SIGINT, signal.SIGTERM):
                before[asking] = signal.getsignal(asking)
                signal.signal(asking, note)
        yield asked
        if asked:  # after the last step
            raise leaving(asked[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deaf(_: int) -> None:
    """For a process that prepares images: a terminal sends Ctrl-C to it, too, but its parent decides when to stop."""
    for asking in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asking, signal.SIG_IGN)


def leaving(number: int) -> BaseException:
    """What a signal raises: KeyboardInterrupt for SIGINT, else SystemExit with the status that a shell would give."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
