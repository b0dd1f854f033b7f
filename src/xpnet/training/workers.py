"""Workers: threads of this process that compute parts of a batch in parallel.

A batch is cut into *shards*. Each shard goes forward and backward in its own thread, and the sums over the shards are
added in a fixed order, like the sums of ranks. The number of shards depends only on the network and the batch, never
on the number of workers, which only limits how many shards compute at once. A run therefore gives the same bits with
any number of workers, and may be resumed with another number.

NumPy releases Python's lock within products, elementwise functions and copies, so threads gain time there. Linear
algebra uses one thread in each worker: its own threads spin while they wait for each other, which costs more than they
gain as soon as another program needs a processor.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from xpnet.backends import Backend
from xpnet.nn.network import Network
from xpnet.nn.trained import EVALUATION_BATCH
from xpnet.training.step import Batch, Samples, Step, Sums, gradients
from xpnet.typing import Array, ByLayer

# A shard has a cost: its thread, and gradients of its own, which are as large as all parameters and have to be added.
# So it must have enough work, enough samples and enough work per parameter. The numbers are measured: below them two
# threads take as long as one, or longer.
SHARD_WORK = 5e7  # multiplications
SHARD_SAMPLES = 64  # or half of that, for two shards
SHARD_WORK_PER_PARAMETER = 400.0

LARGE_ARRAY = 10**5
"""An array of this many parameters is worth a thread when the optimizer updates it."""

EVALUATION_WORK = 1e7
"""An evaluation batch with this many multiplications is worth a thread."""


def threads_start() -> bool:
    """Whether a thread can start, which is not so in a browser's Python.

    Examples
    --------
    >>> threads_start()
    True
    """
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def count_shards(network: Network, backend: Backend, batch_size: int) -> int:
    """Return the number of shards per batch, which is 1 where threads would gain nothing.

    Examples
    --------
    >>> from xpnet import Conv2D, Dense, Flatten, Network, get_backend
    >>> numpy = get_backend("numpy")
    >>> images = Network([Conv2D(32, 3), Conv2D(32, 3), Flatten(), Dense(10)], input_shape=(28, 28))
    >>> count_shards(images, numpy, 128), count_shards(Network([Dense(10)], (784,)), numpy, 128)
    (2, 1)
    """
    if not backend.threads_compute:
        return 1
    work = batch_size * work_of(network)
    by_parameters = work / max(1.0, SHARD_WORK_PER_PARAMETER * network.size)
    by_samples = max(batch_size // SHARD_SAMPLES, min(2, 2 * batch_size // SHARD_SAMPLES))
    return max(1, min(by_samples, int(by_parameters), int(work / SHARD_WORK)))


def count_large(network: Network, backend: Backend) -> int:
    """Count the arrays of parameters that are worth a thread when the optimizer updates them: at least 1."""
    if not backend.threads_compute:
        return 1
    sizes = [math.prod(variable.shape) for declared in network.parameters for variable in declared.values()]
    return max(1, sum(size >= LARGE_ARRAY for size in sizes))


def worth_sharing_evaluation(network: Network, backend: Backend) -> bool:
    """Whether an evaluation batch is worth a thread."""
    return backend.threads_compute and EVALUATION_BATCH * work_of(network) / 3.0 >= EVALUATION_WORK


def work_of(network: Network) -> float:
    """Estimate the number of multiplications per sample, forward and backward."""
    work = 0.0
    for declared, shape in zip(network.parameters, network.shapes[1:], strict=True):
        pixels = math.prod(shape[:-1])
        work += 3.0 * pixels * sum(math.prod(variable.shape) for variable in declared.values())
    return work


class Meeting:
    """A point where the shards of a batch add up arrays in the middle of a pass, as batch normalization needs."""

    def __init__(self, shards: int, turns: threading.Semaphore, all_reduce: Callable[[Array], Array] | None) -> None:
        self.turns, self.all_reduce = turns, all_reduce
        self.arrays: list[Array] = [None] * shards
        self.total: Array = None
        self.barrier = threading.Barrier(shards, action=self._add)

    def _add(self) -> None:
        total = self.arrays[0]
        for array in self.arrays[1:]:
            total = total + array
        self.total = total if self.all_reduce is None else self.all_reduce(total)

    def add(self, shard: int, array: Array) -> Array:
        """Contribute a shard's array, wait for those of the others, and return the sum of all."""
        self.arrays[shard] = array
        self.turns.release()  # so that a waiting shard does not keep another from computing
        try:
            self.barrier.wait()
        finally:
            self.turns.acquire()
        return self.total


class _AskedError(Exception):
    """A layer needs the arrays of the other shards."""


def _ask(array: Array) -> Array:
    raise _AskedError


Look = Callable[[int, Callable[[Array], Array]], Any]
"""Takes a shard's number and the function that sums an array over all shards."""


class Workers:
    """Computes the gradients of a batch shard by shard, and other independent tasks.

    The calling thread is one of the workers.

    Parameters
    ----------
    shards : int
        The number of shards per batch.
    count : int
        The number of threads that compute at once.
    """

    def __init__(self, shards: int, count: int) -> None:
        self.shards, self.count, self.turns = shards, count, threading.Semaphore(count)
        self.meets = False
        others = max(shards, count) - 1
        self.pool = ThreadPoolExecutor(max(1, others), thread_name_prefix="xpnet-shard")  # starts threads when needed

    def gradients(
        self, step: Step, params: ByLayer, state: ByLayer, batch: Batch, samples: Samples
    ) -> tuple[Sums, ByLayer]:
        """Compute `xpnet.training.step.gradients` on shards of the batch."""
        n = batch["index"].shape[0]
        cuts = [n * i // self.shards for i in range(self.shards + 1)]

        def look(shard: int, all_reduce: Callable[[Array], Array]) -> tuple[Sums, ByLayer]:
            rows = slice(cuts[shard], cuts[shard + 1])
            part = {k: v[rows, ...] if k == "index" or k.startswith("noise.") else v for k, v in batch.items()}
            return gradients(dataclasses.replace(step, all_reduce=all_reduce), params, state, part, samples)

        found = self._apart(look) or self._together(look, step.all_reduce)
        return add_up([sums for sums, _ in found]), found[0][1]

    def _apart(self, look: Look) -> list[Any]:
        """Compute the shards in any order, if no layer needs the other shards' arrays."""
        if self.meets:
            return []
        try:
            return self.map(lambda shard: look(shard, _ask), range(self.shards))
        except _AskedError:
            self.meets = True
            return []

    def _together(self, look: Look, all_reduce: Callable[[Array], Array] | None) -> list[Any]:
        """Compute each shard in its own thread; the threads meet where a layer needs the other shards' arrays."""
        meeting = Meeting(self.shards, self.turns, all_reduce)
        results: list[Any] = [None] * self.shards

        def take_part(shard: int) -> None:
            with self.turns:
                try:
                    results[shard] = look(shard, functools.partial(meeting.add, shard))
                except BaseException:
                    meeting.barrier.abort()
                    raise

        self._run([functools.partial(take_part, shard) for shard in range(self.shards)])
        return results

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call a function on each item, as many at once as there are workers, and return the results in order."""
        items = list(items)
        workers = min(self.count, len(items))
        if workers < 2:
            return [function(item) for item in items]
        results: list[Any] = [None] * len(items)
        left = collections.deque(range(len(items)))

        def work() -> None:
            try:
                while True:
                    try:
                        i = left.popleft()
                    except IndexError:
                        return
                    results[i] = function(items[i])
            except BaseException:
                left.clear()  # after an error no further item is needed
                raise

        self._run([work] * workers)
        return results

    def _run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run the first task here and the others in threads, and wait for all of them even if one fails."""
        # NumPy's error state belongs to a context, and a new thread starts with an empty one.
        futures = [self.pool.submit(contextvars.copy_context().run, task) for task in tasks[1:]]
        errors: list[BaseException] = []
        try:
            tasks[0]()
        except Exception as error:
            errors.append(error)
        finally:
            errors += [error for error in [future.exception() for future in futures] if error is not None]
        if errors:  # raise the original error, not its consequence in other threads
            raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])

    def close(self) -> None:
        """Shut the threads down."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def add_up(sums: Sequence[Sums]) -> Sums:
    """Add up the sums of all shards, in their order."""
    total = sums[0]
    for other in sums[1:]:
        pairs = zip(total.gradient, other.gradient, strict=True)
        gradient = [{name: one[name] + two[name] for name in one} for one, two in pairs]
        total = Sums(gradient, total.loss + other.loss, total.correct + other.correct, total.count + other.count)
    return total
