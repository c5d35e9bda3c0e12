"""The audit on workers of dask and of ray, through joblib: the same numbers, also where a worker is killed."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import joblib
import pandas as pd
import psutil
import pytest

from experiments.audit import audit

pytestmark = pytest.mark.slow
WORKERS = 2


@contextmanager
def dask():
    """Two workers on this machine, and a way to find their processes."""
    distributed = pytest.importorskip("dask.distributed", reason="needs `pip install dask[distributed]`")
    with (
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield lambda: [worker.pid for worker in cluster.workers.values()]


@contextmanager
def ray():
    """The same with ray."""
    engine = pytest.importorskip("ray", reason="needs `pip install ray[default]`")
    from ray.util.joblib import register_ray

    engine.init(num_cpus=WORKERS, include_dashboard=False)
    register_ray()
    try:
        with joblib.parallel_config("ray"):
            yield lambda: [p.pid for p in psutil.process_iter() if "PoolActor" in " ".join(p.cmdline()[:1])]
    finally:
        engine.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    audit(folder, quick=True, jobs=1)
    return tables(folder)


def tables(folder):
    found = {str(file.relative_to(folder)): pd.read_parquet(file) for file in folder.rglob("runs.parquet")}
    assert found
    return found


def assert_equal(folder, alone):
    made = tables(folder)
    assert made.keys() == alone.keys()
    for name, table in made.items():
        pd.testing.assert_frame_equal(table, alone[name], check_exact=True)


@pytest.mark.parametrize("engine", [dask, ray])
def test_two_workers_give_the_numbers_of_one_process(engine, alone, tmp_path):
    with engine():
        audit(tmp_path, quick=True, jobs=WORKERS)
    assert_equal(tmp_path, alone)


@pytest.mark.parametrize("engine", [dask, ray])
def test_a_killed_worker_loses_nothing(engine, alone, tmp_path):
    with engine() as workers:
        killed = []

        def kill_one_at_work():
            while not list(tmp_path.rglob("parts/*.parquet")):
                time.sleep(0.05)
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one_at_work)
        killer.start()
        audit(tmp_path, quick=True, jobs=WORKERS)
        killer.join()
    assert killed
    assert_equal(tmp_path, alone)
