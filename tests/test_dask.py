"""Fits over Dask collections on a cluster of two processes."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from dask_fits import NEAR, SAME, K, N, bits, mixture, rows, rows_apart, weights_of
from datasets import init_arguments

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")
import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402
from distributed import Client, LocalCluster  # noqa: E402

from fastgmm import BlockRows, GaussianMixture, MiniBatchGaussianMixture, workers  # noqa: E402
from fastgmm import distributed as on_cluster  # noqa: E402
from fastgmm.pruning import set_pruning_choice  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # sockets of workers that were killed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        wait_for_both(client)
        yield client


def wait_for_both(client):
    """Until both workers are there; a nanny whose worker dies while it starts gives up, and is replaced."""
    for _ in range(20):
        try:
            return client.wait_for_workers(2, timeout=10)
        except TimeoutError:
            client.cluster.scale(2)
    raise AssertionError("the workers do not come back")


def kept_anywhere(client):
    return [fit for fits in client.run(workers.kept).values() for fit in fits]


def holds_nothing(client):
    """Whether the client has let go of all futures, which takes it a moment."""
    gc.collect()
    for _ in range(100):
        if not client.futures:
            return True
        time.sleep(0.05)
    return False


@contextmanager
def pruning(client, choice):
    client.run(set_pruning_choice, choice)
    try:
        yield
    finally:
        client.run(set_pruning_choice, "auto")


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_cluster(client, covariance_type, weighted):
    X, start = rows(covariance_type)
    w = weights_of(N) if weighted else None
    if weighted:
        w[:3000] = 0.0  # a partition without any
    whole = mixture(start, covariance_type).fit(X, sample_weight=w)
    x = da.from_array(X, chunks=(3000, 2))
    lazy_w = None if w is None else da.from_array(w, 700)
    lazy = mixture(start, covariance_type).fit(x, sample_weight=lazy_w)
    assert lazy.lower_bound_ == pytest.approx(whole.lower_bound_, rel=SAME)
    assert lazy.n_iter_ == 20
    assert lazy.score(x, sample_weight=lazy_w) == pytest.approx(whole.score(X, sample_weight=w), rel=SAME)
    assert not kept_anywhere(client)


def test_all_kinds_of_collections(client):
    X, start = rows()
    expected = mixture(start, max_iter=5).fit(X)
    labels = expected.predict(X)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=4)
    empty = frame[frame["a"] > 1e9]
    pieces = np.array_split(X, 5)
    scattered = client.scatter(pieces)
    collections = [
        frame,
        dd.concat([empty, frame, empty]),
        scattered,
        [dask.delayed(piece) for piece in [X[:0], *pieces, X[:0]]],
        da.concatenate([da.from_array(X[:0]), da.from_array(X, chunks=2500)]),
        client.persist(da.from_array(X, chunks=(3000, 4))),
    ]
    for x in collections:
        model = mixture(start, max_iter=5).fit(x)
        assert model.lower_bound_ == pytest.approx(expected.lower_bound_, rel=SAME)
        assert np.array_equal(model.predict(x).compute(), labels)
    ones = client.scatter([np.ones(len(piece)) for piece in pieces])
    weighted = mixture(start, max_iter=5).fit(scattered, sample_weight=ones)
    assert weighted.lower_bound_ == pytest.approx(expected.lower_bound_, rel=SAME)


def test_seeds_of_all_partitions_alike(client, monkeypatch):
    """Starts are made of a sample in which each row is as likely as any other."""
    monkeypatch.setattr("fastgmm._estimator.rows_to_seed_from", lambda n_components, n_features: 2000)
    X = np.arange(40_000.0).reshape(-1, 1)
    taken = []
    original = on_cluster.DaskData.survey

    def survey(self, *arguments):
        original(self, *arguments)
        taken.append(self.seeds.X[:, 0].copy())
        assert self.seeds.stands_for == 40_000

    monkeypatch.setattr(on_cluster.DaskData, "survey", survey)
    x = da.from_array(X, chunks=((5000, 20_000, 15_000), (1,)))
    fits = [GaussianMixture(2, random_state=seed, max_iter=1).fit(x) for seed in (0, 0, 1)]
    assert np.array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], taken[2])
    assert bits(fits[0]) == bits(fits[1])
    assert len(np.unique(taken[0])) == 2000
    # 2000 x (1/8, 1/2, 3/8) with standard deviations of 15, 22 and 22; five of them
    counts = np.histogram(taken[0], [0, 5000, 25_000, 40_000])[0]
    assert np.all(np.abs(counts - [250, 1000, 750]) < [75, 110, 110])


def test_float32_and_single_precision(client):
    X, start = rows(dtype=np.float32)
    x = da.from_array(X, chunks=(1000, 4))
    expected = mixture(start, max_iter=10).fit(X)
    assert mixture(start, max_iter=10).fit(x).lower_bound_ == pytest.approx(expected.lower_bound_, rel=SAME)
    single = mixture(start, max_iter=10, arithmetic="float32").fit(x)
    assert sum(single.history_["pairs_single"]) > 0
    assert single.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-6)


@pytest.mark.parametrize("choice", [pytest.param("never", marks=pytest.mark.slow), "always"])
def test_same_bits_on_any_number_of_workers_and_threads(client, choice):
    X, start = rows_apart()
    x = da.from_array(X, chunks=(1500, 4))
    with pruning(client, choice):
        two = mixture(start).fit(x)
        again = mixture(start).fit(x)
    assert bits(two) == bits(again)
    if choice == "always":  # the promise holds for passes that do skip
        assert two.history_["pairs"][-1] < two.history_["pairs"][0]
    # n_workers = 1 with two threads, whose computations take turns
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp://"
        ) as other,
        Client(other) as other_client,
    ):
        assert list(other_client.nthreads().values()) == [2]
        with pruning(other_client, choice):
            one = mixture(start).fit(x)
    assert bits(one) == bits(two)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("choice", ["never", pytest.param("always", marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_changes_nothing(client, monkeypatch, choice):
    X, start = rows_apart()
    x = da.from_array(X, chunks=(1500, 4))
    n_passes = []
    original = on_cluster.DaskData.collect
    with pruning(client, choice):
        expected = mixture(start).fit(x)

        def collect(self, order):
            n_passes.append(order.number)
            if order.number == 6:
                victim = min(self.homes)
                pid = client.run(os.getpid, workers=[victim])[victim]
                threading.Timer(0.01, os.kill, (pid, signal.SIGKILL)).start()
            return original(self, order)

        monkeypatch.setattr(on_cluster.DaskData, "collect", collect)
        model = mixture(start).fit(x)
    assert max(n_passes) >= 20
    if choice == "never":
        assert bits(model) == bits(expected)
    np.testing.assert_allclose(model.lower_bounds_, expected.lower_bounds_, rtol=NEAR)
    np.testing.assert_allclose(model.means_, expected.means_, rtol=NEAR, atol=NEAR)
    wait_for_both(client)
    assert not kept_anywhere(client)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_lost_partition_is_named(client, monkeypatch):
    X, start = rows()
    parts = client.scatter(np.array_split(X, 6))
    model = mixture(start).fit(parts)
    before = dict(model.__dict__)
    original = on_cluster.DaskData.collect
    lost = []

    def collect(self, order):
        if order.number == 3:
            victim = min(self.homes)
            lost.extend(sorted(self.homes[victim]))
            os.kill(client.run(os.getpid, workers=[victim])[victim], signal.SIGKILL)
        return original(self, order)

    monkeypatch.setattr(on_cluster.DaskData, "collect", collect)
    with pytest.raises(RuntimeError, match=r"X has lost partition .*Scatter it again") as caught:
        model.fit(parts)
    assert f"partition {', '.join(map(str, lost))}:" in str(caught.value)
    for method in (model.score, model.accumulate, MiniBatchGaussianMixture(K).fit):
        with pytest.raises(RuntimeError, match="X has lost partition"):
            method(parts)
    assert model.__dict__ == before
    wait_for_both(client)
    assert not kept_anywhere(client)


def test_bad_rows_on_a_cluster(client):
    X, start = rows()
    model = mixture(start).fit(X)
    before = dict(model.__dict__)
    X[3456, 1] = np.nan
    x = da.from_array(X, chunks=(1000, 4))
    for method in (model.fit, model.score):
        with pytest.raises(ValueError, match="row 456 of partition 3, column 1"):
            method(x)
    with pytest.raises(ValueError, match="3 features in partition 1, but 4 in partition 0"):
        model.fit(client.scatter([X[:10], X[:10, :3]]))
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        model.fit(da.from_array(X[:2]))
    w = np.ones(N)
    w[2010] = -1
    with pytest.raises(ValueError, match=r"non-negative.*row 10 of partition 2"):
        model.fit(da.from_array(rows()[0], chunks=(1000, 4)), sample_weight=da.from_array(w, 1000))
    assert model.__dict__ == before


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also in background jobs, which are started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_interrupt_and_errors_leave_nothing_behind(client, monkeypatch, interruptible):
    X, start = rows()
    x = da.from_array(X, chunks=(500, 4))
    original = on_cluster.DaskData.collect
    model = mixture(start).fit(X)
    before = dict(model.__dict__)
    for error in (KeyboardInterrupt, RuntimeError):

        def collect(self, order, error=error):
            if order.number == 4:
                if error is RuntimeError:
                    raise error
                while True:  # a signal may come between two passes, or where Python drops exceptions
                    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
                    timer.start()
                    original(self, order)
                    timer.join()
            assert order.number < 4 or error is KeyboardInterrupt
            return original(self, order)

        monkeypatch.setattr(on_cluster.DaskData, "collect", collect)
        with pytest.raises(error):
            model.fit(x)
        assert not kept_anywhere(client)
        assert model.__dict__ == before


def test_parameters_travel_once_and_sums_come_back_alone(client, monkeypatch):
    """Tasks of partitions depend on one future; none has the parameters in it."""
    X, start = rows()
    submitted, mapped = [], []
    submit, map_ = Client.submit, Client.map
    monkeypatch.setattr(
        Client, "submit", lambda self, f, *a, **k: (submitted.append(a), submit(self, f, *a, **k))[1]
    )
    monkeypatch.setattr(
        Client, "map", lambda self, f, *a, **k: (mapped.append((f, a)), map_(self, f, *a, **k))[1]
    )
    mixture(start, max_iter=3).fit(da.from_array(X, chunks=(200, 4)))
    orders = [a[0] for a in submitted if isinstance(a[0], workers.Order)]
    assert [order.number for order in orders] == [1, 2, 3]
    assert all(order.request.score_map is order.request.single_map is None for order in orders)
    passes = [a for f, a in mapped if f is workers.collect_part]
    assert sum(len(a[0]) for a in passes) == 3 * 45
    assert not any(isinstance(item, workers.Order) for a in passes for item in a[-1])
    sums = [len(a[0]) for f, a in mapped if f is workers.add_in_order]
    assert sums == [6, 1] * 3


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_of_a_cluster(client, covariance_type, weighted):
    X, start = rows(covariance_type)
    w = weights_of(N) if weighted else None
    model = mixture(start, covariance_type).fit(X[:500])
    expected = model.accumulate(X, sample_weight=w)
    pieces = [X[:0], *np.array_split(X, 11)]
    x = client.scatter(pieces)
    lazy_w = None if w is None else client.scatter([w[:0], *np.array_split(w, 11)])
    found = model.accumulate(x, sample_weight=lazy_w)
    assert (found.n_rows, found.fingerprint) == (N, expected.fingerprint)
    for name in ("weight", "first", "second", "total_weight", "log_likelihood"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=SAME, atol=SAME * np.abs(b).max(), err_msg=name)
    with pytest.raises(ValueError, match="3 features in partition 0"):
        model.accumulate(client.scatter([X[:, :3]]))
    model.update(found)
    assert model.accumulate(client.scatter([X[:0]])).total_weight == 0


@pytest.mark.parametrize("weighted", [False, True])
def test_stepwise_em_on_a_cluster(client, weighted):
    """Steps are made here, partition by partition, as over any source of the same blocks."""
    X, start = rows()
    w = weights_of(N) if weighted else None
    options = {
        **init_arguments("full", start),
        "batch_size": 700,
        "max_iter": 2,
        "tol": 0.0,
        "random_state": 0,
    }
    blocks = [(X[i : i + 1000], None if w is None else w[i : i + 1000]) for i in range(0, N, 1000)]
    source = BlockRows(blocks if weighted else [block for block, _ in blocks], weighted=weighted)
    expected = MiniBatchGaussianMixture(K, **options).fit(source)
    x, lazy_w = da.from_array(X, chunks=(1000, 4)), None if w is None else da.from_array(w, 1000)
    found = MiniBatchGaussianMixture(K, **options).fit(x, sample_weight=lazy_w)
    assert bits(found) == bits(expected)
    futures = client.scatter(np.array_split(X, 9))
    again = MiniBatchGaussianMixture(K, **options)
    for estimator, batch, weights in ((expected, source, None), (found, x, lazy_w)):
        estimator.partial_fit(batch, sample_weight=weights)
    assert bits(found) == bits(expected)
    if not weighted:
        again.fit(futures).partial_fit(futures)
        assert bits(again) == bits(expected)
    del x, lazy_w, futures
    assert not kept_anywhere(client)
    assert holds_nothing(client)


@pytest.mark.filterwarnings("error:Sending large graph")
def test_large_parameters_are_no_news(client):
    n_features = 200
    model = GaussianMixture.from_parameters(
        np.full(40, 1 / 40), np.zeros((40, n_features)), np.repeat(np.eye(n_features)[None], 40, axis=0)
    )
    x = da.zeros((100, n_features), chunks=(50, n_features))
    assert model.score(x) == pytest.approx(-0.5 * n_features * np.log(2 * np.pi))
    assert model.accumulate(x).total_weight == 100


def test_passes_that_end_workers_end_the_fit(client, monkeypatch):
    """Not a worker after the other for ever."""
    X, start = rows()
    monkeypatch.setattr(on_cluster, "MOST_TRIES", 2)
    monkeypatch.setattr(on_cluster, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(workers, "collect_part", lambda *_: os._exit(1))
    with pytest.raises(RuntimeError, match="Workers left 2 times during one pass"):
        mixture(start).fit(da.from_array(X, chunks=(3000, 4)))
    assert holds_nothing(client)
    wait_for_both(client)


def test_errors_that_are_kept_keep_no_partitions(client):
    """An interactive session has the last error, and with it all that was at hand."""
    X, start = rows()
    errors = []
    for model, bad in ((mixture(start), np.nan), (mixture([start[0], start[1][:2], start[2]]), 0.0)):
        X[2500, 0] = bad
        with pytest.raises(ValueError) as caught:
            model.fit(da.from_array(X, chunks=(1000, 4)))
        errors.append(caught.value)
        assert holds_nothing(client)


def test_fits_of_several_threads_leave_the_configuration_as_it_was(client, monkeypatch):
    X, start = rows()
    name = "distributed.admin.large-graph-warning-threshold"
    before, submit, turn = dask.config.get(name), Client.submit, iter([0.3, 0.6])

    def slow(self, *arguments, **options):
        time.sleep(next(turn, 0.0))
        return submit(self, *arguments, **options)

    monkeypatch.setattr(Client, "submit", slow)
    results = [None, None]

    def fit(number):
        results[number] = bits(mixture(start, max_iter=3).fit(da.from_array(X, chunks=(3000, 4))))

    threads = [threading.Thread(target=fit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert results[0] == results[1] is not None
    assert dask.config.get(name) == before


def test_first_tasks_of_a_worker_share_one_thread(monkeypatch):
    made = []

    class Slow(ThreadPoolExecutor):
        def __init__(self, *arguments, **options):
            time.sleep(0.1)
            made.append(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(workers, "ThreadPoolExecutor", Slow)
    monkeypatch.setattr(workers, "_turns", None)
    names = []
    threads = [
        threading.Thread(
            target=lambda: names.append(workers.in_turn(lambda n_threads: threading.get_ident()))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(names)) == 1
