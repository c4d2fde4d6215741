"""Two processes for what is computed over ranks."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


@pytest.fixture(scope="session")
def on_two_ranks():
    """Run ``function(rank, results)`` in two processes that talk by gloo; returns the results by rank."""

    def run(function):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        manager = mp.Manager()
        results = manager.dict()
        mp.spawn(_on_rank, args=(port, function, results), nprocs=2)
        return [results[rank] for rank in range(2)]

    return run


def _on_rank(rank, port, function, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results[rank] = function(rank)
    dist.destroy_process_group()
