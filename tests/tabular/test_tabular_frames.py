"""Tables from whatever holds rows, and columns by kind and by size."""

import numpy as np
import pandas as pd
import pytest

from layered.foundation import BadArgument, BadFile, BadValue, MissingDependency, NotFoundPath, Offline
from layered.tabular import as_frame, cont_cat_split, df_shrink, df_shrink_dtypes, read_table

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
FRAME = pd.DataFrame(ROWS)


class Foreign:
    """A table of another library, which knows how to become pandas'."""

    def to_pandas(self):
        return FRAME


@pytest.mark.parametrize(
    "table",
    [FRAME, Foreign(), ROWS, tuple(ROWS), [FRAME.iloc[0], FRAME.iloc[1]], {"a": [1, 2], "b": ["x", "y"]},
     list(FRAME.itertuples())],
    ids=["pandas", "to_pandas", "dicts", "tuple of dicts", "Series", "columns", "named tuples"],
)  # fmt: skip
def test_rows_in_any_form_make_the_same_frame(table):
    pd.testing.assert_frame_equal(as_frame(table)[["a", "b"]], FRAME, check_dtype=False)


@pytest.mark.parametrize("row", [ROWS[0], FRAME.iloc[0], next(FRAME.itertuples(index=False))])
def test_one_row_is_a_frame_of_one_row(row):
    assert as_frame(row).to_dict("records") == [ROWS[0]]


@pytest.mark.parametrize("table", [3, "people.csv", [1, 2], None])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(BadArgument, match="not a table"):
        as_frame(table)


def test_files_are_read_by_their_suffix(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    FRAME.to_csv(tmp_path / "t.tsv.gz", index=False, sep="\t")
    for name in ("t.csv", "t.tsv.gz"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), FRAME)
    with pytest.raises(NotFoundPath, match=r"there is no table '.*gone\.csv'"):
        read_table(tmp_path / "gone.csv")
    (tmp_path / "t.xyz").touch()
    with pytest.raises(BadValue, match="kind of table"):
        read_table(tmp_path / "t.xyz")


def test_columns_are_continuous_if_float_or_of_many_whole_numbers():
    df = pd.DataFrame(
        {
            "few": np.arange(40) % 20, "many": np.arange(40), "float": 0.5, "text": "x", "truth": True, "target": 1.0,
            "day": pd.Timestamp("2020-01-01"), "kind": pd.Categorical(["a"] * 40),
        }
    )  # fmt: skip
    cont, cat = cont_cat_split(df, dep_var="target")
    assert (list(cont), list(cat)) == (["many", "float"], ["few", "text", "truth", "kind"])
    assert list(cont_cat_split(df, max_card=50, dep_var=["target", "many"])[0]) == ["float"]


def test_shrinking_keeps_every_value():
    df = pd.DataFrame(
        {
            "i": [-100, 0, 100],
            "f": [-100.0, np.nan, 1.5],
            "t": ["a", "b", "a"],
            "u": [0, 10, 254],
            "b": [True, False, True],
            "keep": [1, 2, 3],
        }
    )
    small = df_shrink(df, skip=["keep"])
    assert {name: str(kind) for name, kind in small.dtypes.items()} == {
        "i": "int8", "f": "float32", "t": "category", "u": "int16", "b": "bool", "keep": "int64",
    }  # fmt: skip
    pd.testing.assert_frame_equal(small.astype(df.dtypes), df)
    assert df_shrink_dtypes(df, int2uint=True)["u"] == np.uint8
    assert "t" not in df_shrink_dtypes(df, obj2cat=False)
    assert df_shrink(pd.DataFrame({"big": [2**40]})).big[0] == 2**40


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.zip", "x.csv.bz2", "x.csv.xz", "x.csv.tar", "x.tsv.gz"])
def test_a_damaged_packed_table_is_named(tmp_path, name):
    start = {"gz": b"\x1f\x8b", "zip": b"PK", "bz2": b"BZh", "xz": b"\xfd7zXZ\0", "tar": b""}[name.rpartition(".")[2]]
    (tmp_path / name).write_bytes(start + b"junk")
    with pytest.raises(BadFile, match=name):
        read_table(tmp_path / name)


@pytest.mark.parametrize("name", ["x.feather", "x.parquet"])
def test_a_damaged_table_of_arrow_or_a_missing_arrow_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"ARROW1PAR1 junk")
    with pytest.raises((BadFile, MissingDependency), match=name):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    "address", ["https://host/x.csv", "http://host/x.parquet", "s3://bucket/x.csv", "ftp://host/x.tsv"]
)
def test_a_table_from_the_network_needs_the_network(monkeypatch, address):
    monkeypatch.setenv("LAYERED_OFFLINE", "1")
    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: pytest.fail("opened a socket"))
    with pytest.raises(Offline, match="needs the network"):
        read_table(address)
