"""A program that reads HDF5 files as genevae would, to find out whether it can.

HDF5 may not return from a damaged file, or crash. This runs in a process of its own, which
:mod:`genevae.io.lowlevel.soundness` starts; it imports h5py alone. It reads all of the structure of a file (links,
attributes, chunk indexes), all strings of variable length, small arrays, and samples of large ones. Errors that h5py
raises are left to the readers, which have better words for them.

Standard input has two lines of JSON: where Python finds modules, and the paths. For each path, a line of JSON is
printed: what is wrong, or null.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CPU_SECONDS, BYTES_PER_SECOND = 3, 2 * 10**7
"""Processor time that one read may take: a constant, and more for what it unpacks. A sound file takes less."""
MORE_MEMORY = 2**30
"""Bytes that the program may take beyond what it has after its imports."""
SLICE, WHOLE, CHUNK = 2**22, 2**26, 2**27
"""Bytes that are read at once, the size of arrays that are read entirely, and that of chunks above which none is."""
MANY_TEXTS = 2**24
"""Strings that are read of one array, at most."""
MAX_DEPTH, MAX_OBJECTS = 100, 10**6


Step = Callable[..., None]


class NotReadable(Exception):  # noqa: N818 - a message
    """What is wrong with a file."""


def main() -> None:
    """Answer for each path."""
    sys.path[:] = json.loads(sys.stdin.readline())
    import h5py

    step = limited()
    for path in json.loads(sys.stdin.readline()):
        try:
            with h5py.File(path, "r", rdcc_nbytes=2**20) as file:
                walk(h5py, file, step)
            answer = None
        except NotReadable as found:
            answer = str(found)
        except MemoryError:
            answer = "it needs far more memory than a file of its size"
        except Exception:  # noqa: BLE001 - readers will meet the same error, and explain it
            answer = None
        print(json.dumps(answer), flush=True)  # noqa: T201 - its answer


def limited() -> Step:
    """Limit memory; return a function that grants processor time for the next read, of so many bytes."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent waits for so long only
        return lambda *n_bytes: None  # noqa: ARG005
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - without pathlib
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MORE_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):  # not Linux
        pass
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]

    def step(n_bytes: int = 0) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + n_bytes // BYTES_PER_SECOND
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))

    step()
    return step


def walk(h5py: Any, file: Any, step: Step) -> None:
    """Read every object of a file once."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Any, int]] = [(file, 0)]
    while waiting:
        group, depth = waiting.pop()
        attempt(attributes, group, step)
        for name in attempt(list, group) or ():
            step()
            link = attempt(group.get, name, None, False, True)
            if isinstance(link, h5py.ExternalLink):
                raise NotReadable(f"'{name}' is a link to another file, {link.filename}, which is not read")
            child = attempt(group.__getitem__, name)
            info = None if child is None else attempt(h5py.h5o.get_info, child.id)
            if info is None or (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            if len(seen) > MAX_OBJECTS or depth > MAX_DEPTH:
                raise NotReadable(f"it has more than {MAX_OBJECTS:,} objects, or groups nested {MAX_DEPTH} deep")
            if isinstance(child, h5py.Group):
                waiting.append((child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                attempt(attributes, child, step)
                attempt(dataset, child, step)


def attempt(read: Callable[..., Any], *args: Any) -> Any:
    """Read; an ordinary error is None."""
    try:
        return read(*args)
    except (NotReadable, MemoryError):
        raise
    except Exception as error:
        if "alloc" in str(error):
            raise MemoryError from error
        return None


def attributes(item: Any, step: Step) -> None:
    """Read all attributes."""
    for name in list(item.attrs):
        step()
        attempt(item.attrs.__getitem__, name)


def dataset(data: Any, step: Step) -> None:
    """Read the chunk index, and the values or a sample of them."""
    if data.external:
        raise NotReadable(f"'{data.name}' is stored in another file, {data.external[0][0]}, which is not read")
    if data.is_virtual and any(source.file_name != "." for source in data.virtual_sources()):
        raise NotReadable(f"'{data.name}' is a view of other files, which are not read")
    if data.chunks:
        chunks = iter(range(2**62))

        def pass_by(_: Any) -> None:
            if next(chunks) % 4096 == 0:
                step()

        data.id.chunk_iter(pass_by)
    if not data.shape or not all(data.shape) or not data.id.get_storage_size():
        return
    row, chunk = (product([data.dtype.itemsize, *shape]) for shape in (data.shape[1:], data.chunks or ()))
    if max(row, chunk) > CHUNK:
        return
    across = product(-(-n // length) for n, length in zip(data.shape[1:], (data.chunks or data.shape)[1:], strict=True))
    for start, stop in slices(len(data), row, data.dtype.kind == "O"):
        n_chunks = across * ((stop - start) // data.chunks[0] + 2) if data.chunks else 1
        step(n_chunks * chunk + (stop - start) * row)
        attempt(data.__getitem__, slice(start, stop))


def product(numbers: Iterable[int]) -> int:
    """Multiply, without overflow."""
    result = 1
    for number in numbers:
        result *= int(number)
    return result


def slices(n: int, row: int, is_text: bool) -> Iterator[tuple[int, int]]:
    """Yield what to read of ``n`` rows of so many bytes: all, or some evenly spaced parts."""
    size = max(1, SLICE // max(row * (8 if is_text else 1), 1))
    starts = range(0, n, size)
    if n > MANY_TEXTS if is_text else n * row > WHOLE:
        starts = range(0, n, max(size, n // 8))
    for start in starts:
        yield start, min(start + size, n)


if __name__ == "__main__":
    main()
