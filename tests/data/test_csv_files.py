"""CSV files as other people write them: delimiters, encodings, and labels that are kept as they are written."""

import pandas as pd
import pytest

from layered.data import read_csv, read_labels
from layered.foundation import BadArgument, BadFile, EmptySource, NotFoundPath

ROWS = [("a.png", "x"), ("b.png", "y, or z"), ("c.png", "x")]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_the_delimiter_is_found(tmp_path, mark, name):
    rows = [("file", "label"), *ROWS]
    (tmp_path / name).write_text("\n".join(f'{file}{mark}"{label}"' for file, label in rows))
    assert list(read_csv(tmp_path / name).itertuples(index=False, name=None)) == ROWS


def test_decimal_commas_do_not_pass_for_columns(tmp_path):
    (tmp_path / "eu.csv").write_text("town;price\nBonn;1,5\nUlm;2,25\n")
    assert read_csv(tmp_path / "eu.csv", decimal=",").price.tolist() == [1.5, 2.25]
    assert read_csv(tmp_path / "eu.csv", sep=",").columns.tolist() == ["town;price"]


def test_a_single_column_is_read_as_one(tmp_path):
    (tmp_path / "one.csv").write_text("text\nhello; you\n\n")
    assert read_csv(tmp_path / "one.csv").to_dict("list") == {"text": ["hello; you"]}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_names_the_option_that_reads_it(tmp_path, encoding):
    (tmp_path / "t.csv").write_text("stadt,x\nKöln,1\n", encoding=encoding)
    with pytest.raises(BadFile) as caught:
        read_csv(tmp_path / "t.csv")
    assert f'encoding="{encoding}"' in caught.value.fix
    assert read_csv(tmp_path / "t.csv", encoding=encoding).stadt.tolist() == ["Köln"]


@pytest.mark.parametrize("options", [{"chunksize": 2}, {"iterator": True}], ids=str)
def test_a_reader_of_pieces_is_refused(tmp_path, options):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadArgument, match=r"(?s)read whole.*nrows"):
        read_csv(tmp_path / "a.csv", **options)
    assert len(read_csv(tmp_path / "a.csv", chunksize=None)) == 1


def test_files_that_hold_no_table_are_refused(tmp_path):
    with pytest.raises(NotFoundPath, match=r"nowhere\.csv"):
        read_csv(tmp_path / "nowhere.csv")
    with pytest.raises(NotFoundPath, match="does not exist"):
        read_csv(tmp_path)
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(EmptySource):
        read_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(BadFile, match="number of columns"):
        read_csv(tmp_path / "t.csv")


def test_the_line_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n3,\xff\n")
    with pytest.raises(BadFile, match="0xff in line 3"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zip"])
@pytest.mark.parametrize("mark", [",", "\t"])
def test_countless_columns_are_refused_before_pandas_makes_them(tmp_path, name, mark):
    pd.DataFrame(columns=["\0", *range(30)]).to_csv(tmp_path / name, index=False, sep=mark)
    assert len(read_csv(tmp_path / name).columns) == 31
    with pytest.raises(BadFile, match="too many columns") as caught:
        read_csv(tmp_path / name, max_columns=30)
    assert "max_columns=31" in caught.value.fix
    assert len(read_csv(tmp_path / name, max_columns=31).columns) == 31
    assert len(read_csv(tmp_path / name, max_columns=3, usecols=[1, 2]).columns) == 2


@pytest.mark.parametrize(
    "start", ["", "\n", '"\n"', '"\n",' * 9, "\ufeff", "\0,", '"\n"a"', '"",', 'a"', '""""'], ids=repr
)
@pytest.mark.parametrize("cell", [",", '"a",'])
def test_no_start_of_the_file_hides_its_columns(tmp_path, start, cell):
    (tmp_path / "long.csv").write_text(start + cell * 1_000_000)
    with pytest.raises(BadFile, match="too many columns"):
        read_csv(tmp_path / "long.csv")


def test_delimiters_inside_quotes_make_no_columns(tmp_path):
    (tmp_path / "t.csv").write_text('"a,b,c,d",e\n1,2\n')
    assert read_csv(tmp_path / "t.csv", max_columns=2).columns.tolist() == ["a,b,c,d", "e"]


def labels(tmp_path, *cells, is_text=False, is_number=False, **options):
    rows = (f'00{i},"{cell}"\n' for i, cell in enumerate(cells))
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(rows))
    frame = read_labels(tmp_path / "l.csv", "id", ["label"], is_text, is_number, **options)
    assert options or frame["id"].tolist() == [f"00{i}" for i in range(len(cells))]
    return frame["label"].tolist()


def test_labels_stay_as_they_are_written(tmp_path):
    words = ["NA", "None", "null", "True", "N/A"]
    assert labels(tmp_path, *words) == words
    assert labels(tmp_path, "NA", "None") == ["NA", "None"]
    assert labels(tmp_path, "007", "7") == ["007", "7"]
    assert labels(tmp_path, "1", "NA", "2") == ["1", "NA", "2"]
    assert labels(tmp_path, "NA", "True", "False") == ["NA", "True", "False"]


def test_numbers_and_missing_labels_are_still_read_as_such(tmp_path):
    assert labels(tmp_path, "1", "10", "2") == [1, 10, 2]
    assert labels(tmp_path, "0.50", "1") == [0.5, 1.0]
    assert labels(tmp_path, "True", "False") == [True, False]
    assert labels(tmp_path, "1", "10", is_text=True) == ["1", "10"]
    for missing in ("", "nan", "NaN", "<NA>"):
        made = labels(tmp_path, "a", missing, "NA")
        assert made[::2] == ["a", "NA"]
        assert made[1] != made[1]
    number, missing = labels(tmp_path, "0.5", "NA", is_number=True)
    assert number == 0.5
    assert missing != missing


def test_options_of_how_cells_are_read_take_precedence(tmp_path):
    assert labels(tmp_path, "007", "NA", dtype=str, keep_default_na=False) == ["007", "NA"]
    kept, missing = labels(tmp_path, "x", "NA", na_values=["NA"])
    assert kept == "x"
    assert missing != missing
