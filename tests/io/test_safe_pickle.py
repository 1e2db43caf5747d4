"""Pickled tables: those of every pandas are read as they are, and no pickle runs anything."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import random
import runpy
import struct
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.errors import DataError
from genevae.io.safe_pickle.table import read_pickled_table

PICKLED = Path(__file__).with_name("pickled")
FILES = sorted(PICKLED.glob("*.pkl.gz"))
MAKE = runpy.run_path(str(PICKLED / "make.py"))
DEPTH = 300_000


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- tables -----------------------------------------------------------------------------------------------------------


def with_units_of(expected: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Count times in the units that the file has: pandas 3 chooses others than pandas 2."""
    times = [title for title in expected.columns if expected[title].dtype.kind in "mM"]
    return expected.astype({title: table[title].dtype for title in times if table[title].dtype.kind in "mM"})


def test_there_are_files_of_four_versions_of_pandas() -> None:
    assert len({path.name.split("-")[1] for path in FILES}) == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".pkl.gz"))
def test_tables_of_every_pandas_are_read(path: Path) -> None:
    name = path.name.split("-")[0]
    table = read_pickled_table(path)
    expected = MAKE["times"]() if name == "times" else MAKE["common"](name)
    if name != "times" and "-3." in path.name:  # pandas 3 wrote NaN where there was None
        expected["type"] = expected["type"].fillna(np.nan)
    if name == "times":
        expected["arrow"] = expected["arrow"].astype(table["arrow"].dtype)
    pd.testing.assert_frame_equal(table, with_units_of(expected, table))


VALUES = {
    "texts": st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.none(),
    "numbers": st.floats(),
    "counts": st.integers(-(2**62), 2**62),
    "marks": st.booleans(),
}


@given(data=st.data(), protocol=st.sampled_from([2, 3, 4, 5]), n=st.integers(0, 300))
def test_any_table_comes_back(tmp_path_factory, data, protocol, n) -> None:
    drawn = {title: [data.draw(kind) for _ in range(min(n, 5))] for title, kind in VALUES.items()}
    table = pd.DataFrame({title: pd.Series((values * 60)[:n]) for title, values in drawn.items()})
    table["kinds"] = table["texts"].astype("category")
    table.index = pd.Index([f"cell {i}" for i in range(len(table))]) if data.draw(st.booleans()) else table.index
    table = table.iloc[:: data.draw(st.sampled_from([1, -1, 3]))]
    path = written(tmp_path_factory.mktemp("any") / "t.pkl", pickle.dumps(table, protocol=protocol))
    pd.testing.assert_frame_equal(read_pickled_table(path), table)


def test_a_table_of_pandas_before_1_3_is_read(tmp_path) -> None:
    # such a manager has a state, with its newest layout under "0.14.1"
    class Manager:
        def __reduce__(self) -> Any:
            axes = [pd.Index(["a", "b"]), pd.RangeIndex(2)]
            blocks = [{"values": np.array([[1.0, 2.0]]), "mgr_locs": slice(1, 2)}]
            blocks += [{"values": np.array([[3, 4]]), "mgr_locs": np.array([0])}]
            return (
                Named("pandas.core.internals.managers", "BlockManager"),
                (),
                (axes, [], [], {"0.14.1": made(blocks, axes)}),
            )

    def made(blocks: Any, axes: Any) -> Any:
        return {"axes": axes, "blocks": blocks}

    content = Writer.write(Call("pandas.core.frame", "DataFrame", (), {"_data": Manager()}))
    expected = pd.DataFrame({"a": [3, 4], "b": [1.0, 2.0]})
    pd.testing.assert_frame_equal(read_pickled_table(written(tmp_path / "t.pkl", content)), expected)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_unpacked(tmp_path, pack) -> None:
    table = MAKE["common"]("named")
    packed = pack(pickle.dumps(table))
    pd.testing.assert_frame_equal(read_pickled_table(written(tmp_path / "t.pkl", packed)), table)
    with pytest.raises(DataError, match=r"not whole|cannot be read"):
        read_pickled_table(written(tmp_path / "t.pkl", packed[: len(packed) // 2]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x28\xb5\x2f\xfdxxxx", "Zstandard"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "parquet"),
        (b"a,b\n1,2\n", "does not start as pickles"),
        (pickle.dumps([1, 2]), "list was found where DataFrame"),
        (pickle.dumps(pd.Series([1.0])), "Series"),
        (pickle.dumps(pd.DataFrame({"a": pd.period_range("2020-01", periods=2, freq="M")})), "Period"),
        (pickle.dumps(pd.DataFrame({"a": [[1], [2]]})), "list was found where"),
        (pickle.dumps(pd.DataFrame({"a": [1]}), protocol=0), "protocol 2"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, content, reason) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_pickled_table(written(tmp_path / "t.pkl", content))
    assert str(tmp_path / "t.pkl") in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_pickled_table(tmp_path / "none.pkl")


# --- pickles by hand --------------------------------------------------------------------------------------------------


class Named:
    """A name, written without importing it."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None: ...


class Call:
    """A call of a name, and a state."""

    def __init__(self, module: str, name: str, args: tuple[Any, ...], state: Any = None) -> None:
        self.parts = Named(module, name), args, state

    def __reduce__(self) -> Any:
        return self.parts


class Writer(pickle._Pickler):  # the one of pure Python, whose table of types can be added to
    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_named(self, named: Named) -> None:
        self.write(f"c{named.module}\n{named.name}\n".encode())
        self.memoize(named)

    dispatch[Named] = save_named

    @classmethod
    def write(cls, thing: object, protocol: int = 2) -> bytes:
        file = io.BytesIO()
        cls(file, protocol).dump(thing)
        return file.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


class Evil:
    """An object whose pickle makes a file when it is opened in the ordinary way."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.canary)!r}, 'w').close()",)


class Nested:
    """A NumPy value of type object, which NumPy unpickles again."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return np.float64(1).__reduce__()[0], (np.dtype(object), pickle.dumps(Evil(self.canary)))


def command(canary: Path) -> bytes:
    return text(f"touch {canary}")


def program(canary: Path) -> bytes:
    return text(f"open({str(canary)!r}, 'w').close()")


def framed(thing: Any) -> bytes:
    return pickle.dumps(pd.DataFrame({"a": pd.Series([1, thing], dtype=object)}))


REAL: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda c: pickle.dumps(Evil(c)),
    "system": lambda c: b"\x80\x02cos\nsystem\n" + command(c) + b"\x85R.",
    "posix": lambda c: b"\x80\x02cposix\nsystem\n" + command(c) + b"\x85R.",
    "eval": lambda c: b"\x80\x02cbuiltins\neval\n" + program(c) + b"\x85R.",
    "exec": lambda c: b"\x80\x02c__builtin__\nexec\n" + program(c) + b"\x85R.",
    "remembered": lambda c: b"\x80\x02cos\nsystem\nq\x000" + command(c) + b"\x85q\x010h\x00h\x01R.",
    "name from parts": lambda c: (
        b"\x80\x04" + text("os") + b"\x94" + text("system") + b"\x940h\x00h\x01\x93" + command(c) + b"\x85R."
    ),
    "inst": lambda c: b"\x80\x02(" + command(c) + b"ios\nsystem\n.",
    "obj": lambda c: b"\x80\x02(cos\nsystem\n" + command(c) + b"o.",
    "getattr": lambda c: (
        b"\x80\x04cbuiltins\ngetattr\ncos\n_wrap_close\n"
        + text("__init__")
        + b"\x86R0cos\nsystem\n"
        + command(c)
        + b"\x85R."
    ),
    "attribute of a name": lambda c: (
        b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + command(c) + b"\x85R."
    ),
    "partial": lambda c: b"\x80\x02cfunctools\npartial\ncos\nsystem\n" + command(c) + b"\x86R)R.",
    "in a table": lambda c: framed(Evil(c)),
    "in categories": lambda c: pickle.dumps(pd.DataFrame({"a": pd.Categorical.from_codes([0], pd.Index([Evil(c)]))})),
    "in an index": lambda c: pickle.dumps(pd.DataFrame({"a": [1]}, index=pd.Index([Evil(c)]))),
    "as a title": lambda c: pickle.dumps(pd.DataFrame([[1]], columns=pd.Index([Evil(c)]))),
    "in attrs": lambda c: pickle.dumps(_with_attrs(Evil(c))),
    "dropped at once": lambda c: pickle.dumps(Evil(c), 2)[:-1] + b"0" + pickle.dumps(pd.DataFrame({"a": [1]}), 2)[2:],
}


UNUSED = ("in attrs", "dropped at once")
"""What a table does not need is not read."""


def _with_attrs(thing: Any) -> pd.DataFrame:
    table = pd.DataFrame({"a": [1]})
    table.attrs["x"] = thing
    return table


@pytest.mark.parametrize("name", REAL)
def test_what_runs_in_the_ordinary_way_does_not_run_here(tmp_path, name) -> None:
    canary = tmp_path / "canary"
    path = written(tmp_path / "t.pkl", REAL[name](canary))
    if name in UNUSED:
        pd.testing.assert_frame_equal(read_pickled_table(path), pd.DataFrame({"a": [1]}))
    else:
        with pytest.raises(DataError) as caught:
            read_pickled_table(path)
        assert str(path) in str(caught.value)
    assert not canary.exists()
    try:  # to be sure that the attack is one
        pickle.loads(path.read_bytes())  # noqa: S301 - it is
    except (TypeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        opened = error
    else:
        opened = None
    assert canary.exists(), opened


@pytest.mark.parametrize("wrap", [pickle.dumps, framed])
def test_a_pickle_within_a_numpy_value_is_not_opened(tmp_path, wrap) -> None:  # as NumPy before 2.3 did
    path = written(tmp_path / "t.pkl", wrap(Nested(tmp_path / "canary")))
    with pytest.raises(DataError, match=r"scalar|NumPy value"):
        read_pickled_table(path)
    assert not (tmp_path / "canary").exists()


NAMES = [
    "builtins.open", "builtins.__import__", "builtins.compile", "builtins.object", "builtins.map", "builtins.setattr",
    "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.add_extension", "functools.reduce",
    "operator.attrgetter",
    "operator.methodcaller", "subprocess.Popen", "shutil.rmtree", "types.FunctionType", "types.CodeType",
    "code.interact",
    "codecs.encode", "_codecs.decode", "codecs.open", "pathlib.Path", "importlib.import_module", "runpy.run_path",
    "pandas.eval", "pandas.read_pickle", "pandas.core.computation.eval.eval", "pandas.io.common.get_handle",
    "pandas.io.pickle.read_pickle", "pandas.core.frame.DataFrame.query", "pandas.core.generic.NDFrame.eval",
    "pandas._libs.lib.map_infer", "pandas.core.internals.managers.create_block_manager_from_blocks",
    "numpy.load", "numpy.f2py.compile", "numpy.testing._private.utils.runstring", "numpy.testing.rundocs",
    "numpy.memmap", "numpy.core.memmap.memmap", "numpy.frompyfunc", "numpy.ndarray.tofile", "numpy.fromfile",
    "numpy.core.multiarray.fromfile", "numpy.distutils.exec_command.exec_command", "torch.load",
    "zoneinfo.ZoneInfo.from_file",
    "pyarrow.lib.memory_map", "pyarrow.lib._restore_array.__globals__", "datetime.datetime.strptime",
    "pytz._p.__globals__",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_table_needs_are_refused_and_named(tmp_path, name) -> None:
    module, _, attribute = name.rpartition(".")
    content = Writer.write(Call(module, attribute, ("1 + 1",)))
    with pytest.raises(DataError) as caught:
        read_pickled_table(written(tmp_path / "t.pkl", content))
    assert f"'{name}'" in str(caught.value)
    assert "to_parquet('t.parquet')" in str(caught.value)


def test_no_admitted_name_is_a_way_out() -> None:
    from genevae.io.safe_pickle.parts import ADMITTED

    modules = {module.split(".")[0] for module, _ in ADMITTED}
    assert modules == {
        "anndata",
        "_codecs",
        "__builtin__",
        "builtins",
        "datetime",
        "pytz",
        "zoneinfo",
        "numpy",
        "pandas",
        "pyarrow",
    }
    names = {name for module, name in ADMITTED if module in ("builtins", "__builtin__")}
    assert names == {"slice", "bytes", "bytearray", "getattr"}


GETATTR = b"\x80\x04cbuiltins\ngetattr\n"
TABLE = b"cpandas.core.frame\nDataFrame\n)\x81"
LIST = b"\x80\x02]q\x00"
ODD: dict[str, bytes] = {
    "attribute of an admitted name": GETATTR + b"cpandas.core.frame\nDataFrame\n" + text("eval") + b"\x86R.",
    "attribute of a list": GETATTR + b"]" + text("append") + b"\x86R.",
    "its class": b"\x80\x02" + TABLE + b"}" + text("__class__") + b"cpandas.core.frame\nDataFrame\nsb.",
    "its dict": b"\x80\x02" + TABLE + b"N}" + text("__setstate__") + b"Ns\x86b.",
    "state of a name": b"\x80\x02cpandas.core.frame\nDataFrame\n}" + text("eval") + b"Nsb.",
    "state twice": b"\x80\x02" + TABLE + b"}b}b.",
    "state of a list": b"\x80\x02]}b.",
    "call of a text": b"\x80\x02" + text("os.system") + b")R.",
    "call of a result": b"\x80\x02" + TABLE + b")R.",
    "call with a list": b"\x80\x02cpandas.core.frame\nDataFrame\n]R.",
    "name that is no text": b"\x80\x04]]\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "extension of two bytes": b"\x80\x02\x83\x01\x00.",
    "persistent id": b"\x80\x02P1\n.",
    "binary persistent id": b"\x80\x02K\x01Q.",
    "next buffer": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05]\x98.",
    "set": b"\x80\x04\x8f.",
    "frozen set": b"\x80\x04(\x91.",
    "call with keywords": b"\x80\x04cpandas.core.frame\nDataFrame\n)}\x92.",
    "second start": b"\x80\x02\x80\x02].",
    "protocol 6": b"\x80\x06].",
    "nothing": b"\x80\x02.",
    "two objects": b"\x80\x02]].",
    "open mark": b"\x80\x02(].",
    "below the stack": b"\x80\x020.",
    "no mark": b"\x80\x02e.",
    "unknown memory": b"\x80\x02h\x07.",
    "memory of nothing": b"\x80\x02q\x00.",
    "far memory": LIST + b"r\xff\xff\xff\x7f.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "long array of bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**63) + b"x.",
    "long frame": b"\x80\x04\x95" + b"\xff" * 8,
    "cut in a number": b"\x80\x02]q\x00j\x00",
    "cut in a name": b"\x80\x02cpandas",
    "append to a tuple": b"\x80\x02)]a.",
    "key that is a list": b"\x80\x02}]Ns.",
    "key without a value": b"\x80\x02}(Nu.",
    "list in itself": LIST + b"h\x00a.",
    "not UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "deep tuple": b"\x80\x02)" + b"\x85" * DEPTH + b".",
    "deep list": b"\x80\x02" + b"]" * DEPTH + b"a" * (DEPTH - 1) + b".",
    "deep call": b"\x80\x02)" + b"q\x00cnumpy\ndtype\nh\x00R\x85" * 40_000 + b".",
    "deep key": b"\x80\x02})" + b"\x85" * DEPTH + b"Ns.",
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_programs_end_in_an_error(tmp_path, name) -> None:
    with pytest.raises(DataError, match=r"t\.pkl"):
        read_pickled_table(written(tmp_path / "t.pkl", ODD[name]))


# --- tables that lie --------------------------------------------------------------------------------------------------


def dtype(code: str, order: str = "<") -> Call:
    return Call("numpy", "dtype", (code, False, True), (3, order, None, None, None, -1, -1, 0))


def array(data: Any, shape: Any, of: Any = None) -> Call:
    return Call("numpy._core.numeric", "_frombuffer", (data, of or dtype("i8"), shape, "C"))


def index(data: Any) -> Call:
    return Call("pandas.core.indexes.base", "_new_Index", (Named("pandas", "Index"), {"data": data, "name": None}))


def counted(n: Any, step: Any = 1) -> Call:
    given = {"start": 0, "stop": n, "step": step, "name": None}
    return Call("pandas.core.indexes.base", "_new_Index", (Named("pandas", "RangeIndex"), given))


def block(values: Any, at: Any = slice(0, 1)) -> Call:
    return Call("pandas._libs.internals", "_unpickle_block", (values, at, 2))


def frame(*blocks: Any, columns: Any = None, rows: Any = None) -> bytes:
    axes = [columns or counted(1), rows or counted(2)]
    manager = Call("pandas.core.internals.managers", "BlockManager", (tuple(blocks), axes))
    return Writer.write(Call("pandas", "DataFrame", (), {"_mgr": manager}), 5)


def levels(depth: int) -> Any:
    """Return an index whose two levels are one index whose two levels are one index, and so on."""
    inner: Any = index(array(bytes(8), (1,)))
    codes = array(b"\0", (1,), dtype("i1", "|"))
    for _ in range(depth):
        given = {"levels": [inner, inner], "codes": [codes, codes], "names": [None, None], "sortorder": None}
        inner = Call("pandas.core.indexes.base", "_new_Index", (Named("pandas", "MultiIndex"), given))
    return inner


def itself() -> Any:
    given: dict[str, Any] = {"codes": [], "names": [None], "sortorder": None}
    made = Call("pandas.core.indexes.base", "_new_Index", (Named("pandas", "MultiIndex"), given))
    given["levels"] = [made]
    return made


def arrow(length: Any, start: Any, *buffers: bytes | None) -> Call:
    kind = Call("pyarrow.lib", "type_for_alias", ("large_string",))
    notes = [None if data is None else Call("pyarrow.lib", "py_buffer", (data,)) for data in buffers]
    whole = Call("pyarrow.lib", "_restore_array", ((kind, length, 0, start, notes, [], None),))
    return Call("pandas.arrays", "ArrowStringArray", (), {"_pa_array": whole})


def categories(codes: bytes, of: Any) -> Call:
    given = Call("pandas", "CategoricalDtype", (), {"categories": of, "ordered": False})
    state = {"_codes": array(codes, (len(codes),), dtype("i1", "|")), "_dtype": given}
    return Call("pandas.core.arrays.categorical", "Categorical", (), state)


TWO = bytes(16)
ENDS = np.array([0, 1, 2]).tobytes()
LIES: dict[str, Callable[[], bytes]] = {
    "shape": lambda: frame(block(array(TWO, (1, 2**40)))),
    "overflowing shape": lambda: frame(block(array(TWO, (2**32, 2**32)))),
    "negative shape": lambda: frame(block(array(TWO, (-1, -2)))),
    "three axes": lambda: frame(block(array(TWO, (1, 1, 2)))),
    "shape of texts": lambda: frame(block(array(TWO, ("1", "2")))),
    "objects as bytes": lambda: frame(block(array(TWO, (1, 2), dtype("O8", "|")))),
    "records": lambda: frame(block(array(TWO, (1, 2), Call("numpy", "dtype", ("V8",), (3, "|", None, ("a",), {}, 8,
    1, 0))))),
    "numbers with a base": lambda: frame(
        block(array(TWO, (1, 2), Call("numpy", "dtype", ("i8",), (3, "<", (1, 2), None, None, -1, -1, 0))))
    ),
    "huge texts": lambda: frame(block(array(TWO, (1, 2), dtype("U99999")))),
    "truth values of 7": lambda: frame(block(array(b"\7\7", (1, 2), dtype("b1", "|")))),
    "two columns in a place": lambda: frame(block(array(TWO, (1, 2))), block(array(TWO, (1, 2)))),
    "no column": frame,
    "column outside": lambda: frame(block(array(TWO, (1, 2)), array(np.array([7]).tobytes(), (1,)))),
    "rows": lambda: frame(block(array(TWO, (1, 2))), rows=counted(3)),
    "endless columns": lambda: frame(columns=counted(10**9), rows=counted(0)),
    "endless rows": lambda: frame(columns=counted(0), rows=counted(10**12)),
    "more rows than there are": lambda: frame(columns=counted(0), rows=counted(10**100)),
    "no step": lambda: frame(columns=counted(1, 0)),
    "step of text": lambda: frame(columns=counted(1, "1")),
    "levels of levels": lambda: frame(block(array(TWO, (1, 2))), rows=levels(60)),
    "an index that holds itself": lambda: frame(block(array(TWO, (1, 2))), rows=itself()),
    "codes beyond the categories": lambda: frame(block(categories(b"\0\5", index(array(TWO, (2,)))))),
    "categories twice": lambda: frame(block(categories(b"\0\1", index(array(TWO, (2,)))))),
    "an array of nothing": lambda: frame(block(Call("pandas.core.arrays.categorical", "Categorical", (), {"x": 1}))),
    "endless categories": lambda: frame(block(categories(b"\0\1", counted(10**10)))),
    "texts outside": lambda: frame(block(arrow(2, 0, None, np.array([0, 1, 2**40]).tobytes(), b"ab"))),
    "texts backwards": lambda: frame(block(arrow(2, 0, None, np.array([0, 2, 1]).tobytes(), b"ab"))),
    "texts before": lambda: frame(block(arrow(2, 0, None, np.array([-5, 1, 2]).tobytes(), b"ab"))),
    "endless texts": lambda: frame(block(arrow(2**50, 0, None, ENDS, b"ab"))),
    "texts from afar": lambda: frame(block(arrow(2, 2**70, None, ENDS, b"ab"))),
    "texts before the first": lambda: frame(block(arrow(2, -1, None, ENDS, b"ab"))),
    "texts that are none": lambda: frame(block(arrow(2, 0, None, ENDS, b"\xff\xff"))),
    "no marks of missing texts": lambda: frame(block(arrow(2, 0, b"", ENDS, b"ab"))),
    "time zone that is a file": lambda: frame(block(zoned("../../../etc/passwd"))),
    "time zone that is a folder": lambda: frame(block(zoned("Europe"))),
}  # fmt: skip


def zoned(name: str) -> Call:
    zone = Call("zoneinfo.ZoneInfo", "_unpickle", (name, 1))
    unit = Call("numpy", "dtype", ("M8", False, True), (4, "<", None, None, None, -1, -1, 0, (None, (b"ns", 1, 1, 1))))
    state = (Call("pandas", "DatetimeTZDtype", (), {"tz": zone}), array(TWO, (1, 2), unit), {})
    args = (Named("pandas.arrays", "DatetimeArray"), 1, None)
    return Call("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked", args, state)


def test_the_honest_ones_are_read(tmp_path) -> None:
    """Otherwise the lies below would be refused for another reason."""
    for values, expected in [
        (array(TWO, (1, 2)), [0, 0]),
        (arrow(2, 0, None, ENDS, b"ab"), ["a", "b"]),
        (arrow(1, 1, b"\2", ENDS, b"ab"), ["b"]),
        (categories(b"\1\0", index(array(np.array([3, 4]).tobytes(), (2,)))), [4, 3]),
        (zoned("Europe/Berlin"), [pd.Timestamp(0, tz="Europe/Berlin")] * 2),
    ]:
        table = read_pickled_table(written(tmp_path / "t.pkl", frame(block(values), rows=counted(len(expected)))))
        assert list(table[0]) == expected


@pytest.mark.parametrize("name", LIES)
def test_tables_that_lie_are_refused(tmp_path, name) -> None:
    with pytest.raises(DataError, match=r"t\.pkl"):
        read_pickled_table(written(tmp_path / "t.pkl", LIES[name]()))


# --- columns of other classes -----------------------------------------------------------------------------------------


class Unknown:
    """A class with a state, items and arguments by name, of which each has an instruction of its own."""

    def __init__(self, *, one: int) -> None:
        self.one = {one}

    def __getnewargs_ex__(self) -> Any:
        return (), {"one": 1}


def others(canary: Path) -> dict[str, Any]:
    """Return columns that are not read."""
    months = pd.period_range("2020-01", periods=2, freq="M")
    return {
        "period": months,
        "sparse": pd.arrays.SparseArray([0.0, 1.0]),
        "interval": pd.arrays.IntervalArray.from_breaks([0, 1, 2]),
        "months": pd.Categorical(months),
        "object": pd.Series([Unknown(one=1), Unknown(one=2)]),
        "set": pd.Series([{1}, frozenset({2})]),
        "ordered": pd.Series([OrderedDict(a=1), OrderedDict(b=2)]),
        "decimal": pd.Series([Decimal(1), None]),
        "path": pd.Series([canary, canary]),
        "evil": pd.Series([Evil(canary), 1]),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_column_of_another_class_is_left_out_and_named_and_the_rest_is_read(tmp_path, capsys, protocol) -> None:
    canary = tmp_path / "canary"
    kept = {"type": ["T", "B"], "age": [1.5, 2.5]}
    table = pd.DataFrame({"type": kept["type"], **others(canary), "age": kept["age"]}).set_axis(["a", "b"])
    path = written(tmp_path / "t.pkl", pickle.dumps(table, protocol=protocol))
    pd.testing.assert_frame_equal(read_pickled_table(path), pd.DataFrame(kept, index=["a", "b"]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(others(canary))
    for line, name in zip(lines, others(canary), strict=True):
        assert f"column '{name}' is left out" in line
    assert not canary.exists()


def test_an_index_of_another_class_is_an_error_that_names_it(tmp_path) -> None:
    table = pd.DataFrame({"a": [1, 2]}, index=pd.period_range("2020-01", periods=2, freq="M"))
    with pytest.raises(DataError, match=r"t\.pkl.*PeriodIndex.*to_parquet"):
        read_pickled_table(written(tmp_path / "t.pkl", pickle.dumps(table)))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("as_csr", [True, False])
@pytest.mark.parametrize("rows", [None, [2, 0], slice(1, 3)], ids=["whole", "rows", "range"])
def test_an_anndata_object_or_a_view_of_one_is_its_obs(tmp_path, rows, as_csr, protocol) -> None:
    x = np.eye(3, 2, dtype=np.float32)
    obs = pd.DataFrame({"type": pd.Categorical(["T", "B", "T"]), "age": [1.0, 2.0, 3.0]}, index=list("abc"))
    adata = ad.AnnData(sparse.csr_matrix(x) if as_csr else x, obs, uns={"evil": Evil(tmp_path / "canary")})
    adata.obsm["X_pca"] = x
    adata = adata if rows is None else adata[rows]
    found = read_pickled_table(written(tmp_path / "t.pkl", pickle.dumps(adata, protocol=protocol)))
    pd.testing.assert_frame_equal(found, pd.DataFrame(adata.obs))
    assert not (tmp_path / "canary").exists()


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, add or leave out a few bytes."""
    data, at = bytearray(content), rng.randrange(1, len(content))
    kind = rng.randrange(5)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.randrange(256)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    else:
        del data[at : at + rng.randrange(1, 9)]
    return bytes(data)


def survives(path: Path, content: bytes, shape: tuple[int, int], n: int, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    for _ in range(n):
        path.write_bytes(damaged(content, rng))
        with contextlib.suppress(DataError), contextlib.redirect_stderr(io.StringIO()) as lines:
            n_rows, n_columns = read_pickled_table(path).shape
            left_out = lines.getvalue().count("is left out")  # a damaged name is that of another class
            assert (n_rows, n_columns + left_out) == shape


@pytest.mark.parametrize("protocol", [2, 5])
def test_damaged_tables_are_read_or_refused(tmp_path, protocol) -> None:
    table = MAKE["common"]("named")
    survives(tmp_path / "t.pkl", pickle.dumps(table, protocol=protocol), table.shape, 60, seed=protocol)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".pkl.gz"))
def test_all_damaged_tables_are_read_or_refused(tmp_path, path) -> None:
    content = gzip.decompress(path.read_bytes())
    shape = read_pickled_table(path).shape
    survives(tmp_path / "t.pkl", content, shape, 1000, seed=1)
