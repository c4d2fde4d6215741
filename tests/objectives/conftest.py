"""Two processes for what is computed over ranks."""

import socket

import pytest
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import spawn

from tests.objective_cases import on_rank


@pytest.fixture(scope="session")
def on_two_ranks():
    """Run ``function(rank, results)`` in two processes that talk by gloo; returns the results by rank."""

    def run(function):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        manager = mp.Manager()
        results = manager.dict()
        spawn(on_rank, args=(port, function, results), nprocs=2)
        return [results[rank] for rank in range(2)]

    return run
