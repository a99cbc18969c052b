"""What the server answers is what `predict` says; what it cannot answer it refuses in words."""

import base64
import io
import re
import signal
import socket
import threading
from contextlib import suppress
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from asking import BAD_NAME, ask, predict, refused
from PIL import Image

from layered.cli.main import make_parser
from layered.data import RegressionBlock
from layered.foundation import BadValue
from layered.serve import serve, serving
from layered.serve.answers import Answers
from layered.serve.questions import Question
from layered.serve.worker import Worker
from layered.tabular import TabularDataLoaders, TabularModel, get_emb_sz, tabular_learner
from layered.testing.tiny import synth_learner
from layered.text import AWD_LSTM, BaseTokenizer, TextDataLoaders, text_classifier_learner
from layered.training import Ensemble, Learner, load_learner

ROW = {"size": 4.5, "colour": "pale"}


def picture(colour="red", size=(48, 40)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def in_base64(data):
    return base64.b64encode(data).decode()


def same(answer, probabilities, vocab):
    assert list(answer["probabilities"]) == [str(name) for name in vocab]
    assert list(answer["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_images_are_answered_as_by_predict(image_url, models):
    learn, images = load_learner(models["image"]), [picture(colour) for colour in ("red", "blue", "white")]
    status, answer = predict(image_url, images[0], kind="image/png")
    assert status == 200
    label, _, probabilities = learn.predict(images[0])
    assert answer["prediction"] == label
    same(answer, probabilities, learn.dls.vocab)
    _, together = predict(image_url, {"items": [*map(in_base64, images)]})
    for one, image in zip(together["predictions"], images, strict=True):
        same(one, learn.predict(image)[2], learn.dls.vocab)
    as_url = f"data:image/png;base64,{in_base64(images[0])}"
    assert predict(image_url, {"item": as_url}) == (200, answer)


def test_rows_texts_and_ratings_are_answered_as_by_predict(row_url, text_url, rating_url, models):
    rows, texts, ratings = (load_learner(models[name]) for name in ("row", "text", "rating"))
    _, answer = predict(row_url, {"item": ROW})
    same(answer, rows.predict(ROW)[2], rows.dls.vocab)
    _, answer = predict(row_url, {"item": {"size": None, "colour": "deep"}})
    same(answer, rows.predict({"size": None, "colour": "deep"})[2], rows.dls.vocab)
    _, answer = predict(text_url, {"items": ["a good film", "bad"]})
    for one, text in zip(answer["predictions"], ["a good film", "bad"], strict=True):
        same(one, texts.predict(text)[2], ["no", "yes"])
    _, answer = predict(rating_url, {"item": {"user": "3", "film": "Dune"}})
    assert answer["prediction"] == pytest.approx(float(ratings.predict({"user": 3, "film": "Dune"})[2]), abs=1e-5)


def test_an_answer_that_is_not_a_number_is_refused(models):
    learn = load_learner(models["row"])
    with torch.no_grad():
        next(learn.model.parameters()).fill_(torch.nan)
    with serving(learn) as url:
        for question in ({"item": ROW}, {"items": [ROW, ROW]}):
            status, answer = predict(url, question)
            assert (status, answer["error"]["problem"]) == (422, "the model's answer is not a finite number")


def test_words_are_not_the_classes_of_a_model_of_numbers():
    texts = pd.DataFrame({"text": ["a good film", "a bad film"] * 9, "stars": [5.0, 1.0] * 9})
    dls = TextDataLoaders.from_df(
        texts,
        text_col="text",
        label_col="stars",
        y_block=RegressionBlock(),
        tok_tfm=BaseTokenizer(),
        bs=4,
        device="cpu",
    )
    learn = text_classifier_learner(dls, AWD_LSTM, pretrained=False, config={"emb_sz": 8, "n_hid": 8, "n_layers": 1})
    answers = Answers(learn)
    assert answers.vocab == []
    assert Ensemble([learn]).vocab is None
    (answer,) = answers.of_questions([Question("a good film")])
    assert answer["prediction"] == pytest.approx(float(learn.predict("a good film")[2]), abs=1e-5)


def test_a_row_alone_is_answered_as_among_others_and_unseen_levels_are_refused_by_any_learner():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=90), "colour": rng.choice(["pale", "deep"], 90)})
    table["kind"], table["price"] = rng.choice(["b", "c"], 90), rng.normal(size=90)

    def dls(targets):
        return TabularDataLoaders.from_df(
            table, cat_names=["colour"], cont_names=["size"], y_names=targets, seed=0, bs=16, device="cpu"
        )

    one = dls("kind")
    learners = [Learner(one, TabularModel(get_emb_sz(one), 1, 2, [8])), tabular_learner(one, layers=[8]),
                tabular_learner(dls(["kind", "price"]), layers=[8])]  # fmt: skip
    for learn in learners:
        answers = Answers(learn)
        (alone,), together = (answers.of_questions([Question(ROW)] * count) for count in (1, 3))
        assert [answer["prediction"] for answer in together] == [alone["prediction"]] * 3
        (error,) = answers.of_questions([Question({"size": 1, "colour": "blue"})])
        assert "'colour' has a value that did not occur in training" in error.problem
    _, numbers = learners[-1].predict(ROW)[1]
    assert alone["prediction"] == {"kind": alone["prediction"]["kind"], "price": pytest.approx(float(numbers))}
    assert alone["prediction"]["kind"] in {"b", "c"}


def test_it_says_what_it_is_asked_about(image_url, row_url, text_url):
    about = {url: ask(url, "/describe")[2] for url in (image_url, row_url, text_url)}
    assert [o["input"]["kind"] for o in about.values()] == ["image", "row", "text"]
    assert about[image_url]["classes"] == ["blue", "green", "red"]
    assert about[row_url]["input"]["columns"] == [
        {"name": "colour", "kind": "category", "levels": ["deep", "pale"], "count": 2},
        {"name": "size", "kind": "number"},
    ]
    assert about[row_url]["classes"] == [BAD_NAME, "b", "c"]
    assert ask(image_url, "/health")[::2] == (200, {"status": "ok", "waiting": 0})


def test_what_the_model_looked_at_is_shown_over_what_it_sees(image_url):
    _, answer = predict(image_url, {"item": in_base64(picture()), "explain": True})
    seen = Image.open(io.BytesIO(base64.b64decode(answer["looked_at"]["image"].partition(",")[2])))
    assert seen.size == (32, 32)
    assert {len(row) for row in answer["looked_at"]["map"]} == {15}
    assert all(0 <= share <= 1 for row in answer["looked_at"]["map"] for share in row)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"size": 1, "colour": "blue"}, "'colour' has a value that did not occur in training"),
        ({"size": "much", "colour": "deep"}, "'size' has a value that cannot be read as a number"),
        ({"size": [1], "colour": "deep"}, "'size' is not a value"),
        ({"size": 1}, "columns are missing: 'colour'"),
        ({"size": 1, "color": "deep"}, "there is no column 'color'"),
        ("size", "a row is an object"),
    ],
)
def test_bad_rows_are_refused_with_their_place(row_url, item, problem):
    assert problem in refused(row_url, {"item": item}, 422)["problem"]
    error = refused(row_url, {"items": [ROW, item]}, 422)
    assert (problem in error["problem"], error["item"]) == (True, 1)


def test_bad_images_and_texts_are_refused(image_url, text_url):
    assert "empty" in refused(image_url, b"", 422, kind="image/png")["problem"]
    broken = refused(image_url, b"no image", 422, kind="image/png")
    assert "cannot be decoded" in broken["problem"]
    assert "fix" not in broken  # which would be for Python
    refused(image_url, picture()[:60], 422, kind="image/png")
    assert "base64" in refused(image_url, {"item": "/etc/passwd"}, 422)["problem"]
    assert "pixels" in refused(image_url, b"P6 8000 6000 255\n", 413, kind="image/png")["got"]
    assert "empty" in refused(text_url, {"item": "  "}, 422)["problem"]
    assert "too long" in refused(text_url, {"item": "x" * 100_001}, 413)["problem"]
    assert predict(text_url, {"item": "/etc/passwd \ud800"})[0] == 200  # a text like any other


def test_other_shapes_are_refused(text_url):
    for body in ({}, [], {"item": "a", "items": ["a"]}, {"items": []}, {"items": "a"}, {"item": "a", "explain": True}):
        refused(text_url, body, 400)
    assert refused(text_url, {"item": "a", "explan": 1}, 400)["fix"] == "did you mean 'explain'?"
    assert "at most 64" in refused(text_url, {"items": ["a"] * 65}, 413)["expected"]
    refused(text_url, "{", 400)
    refused(text_url, b"[" * 10_000, 400)
    refused(text_url, {"item": "a"}, 415, kind="text/plain")


def test_only_this_page_may_ask(text_url):
    address = text_url.rstrip("/")
    assert predict(text_url, {"item": "a"}, Origin=address)[0] == 200
    for origin in ("https://elsewhere.example", "null", address + "0"):
        refused(text_url, {"item": "a"}, 403, Origin=origin)
    for host in ("elsewhere.example", "elsewhere.example:80", "127.0.0.1.elsewhere.example", "", "["):
        assert ask(text_url, "/", Host=host)[0] == 403
    for host in ("localhost:9", "127.0.0.1:9000", "[::1]:80"):  # as through a tunnel
        assert ask(text_url, "/health", Host=host)[0] == 200


def test_there_is_nothing_else(text_url):
    for path in ("/../etc/passwd", "/page.html", "//etc/passwd", "/%2e%2e/", "/describe/"):
        status, _, content = ask(text_url, path)
        assert (status in (400, 404), set(content)) == (True, {"error"})
    assert ask(text_url, "/predict")[0] == 405
    assert ask(text_url, "/", b"", method="DELETE")[0] == 405
    assert ask(text_url, "/", method="HEAD")[::2] == (200, b"")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_from_elsewhere_and_no_text_becomes_markup(text_url):
    status, headers, content = ask(text_url, "/")
    page, tags = content.decode(), Tags()
    tags.feed(page)
    assert status == 200
    assert [(tag, attrs) for tag, attrs in tags.found if {"src", "style"} & set(attrs)] == []
    assert [attrs["href"] for _, attrs in tags.found if "href" in attrs] == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", page)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_requests_that_come_together_are_answered_as_one_batch_each_with_its_own():
    sizes, is_free, began = [], threading.Event(), threading.Event()

    def answer(items):
        began.set()
        sizes.append(len(items))
        is_free.wait(10)
        return [item * 2 for item in items]

    worker = Worker(answer, bs=4)
    first = worker.put([1])
    began.wait(10)
    jobs = [worker.put([10 * i, 10 * i + 1]) for i in range(3)]
    is_free.set()
    assert [job.result(10) for job in (first, *jobs)] == [[2], [0, 2], [20, 22], [40, 42]]
    assert sizes == [1, 4, 2]


def test_more_requests_than_may_wait_are_asked_to_come_again(models, monkeypatch):
    is_free, waiting = threading.Event(), threading.Semaphore(0)

    def slow(self, questions):
        waiting.release()
        is_free.wait(10)
        return [{"prediction": "yes"} for _ in questions]

    monkeypatch.setattr(Answers, "of_questions", slow)
    monkeypatch.setattr(Worker.__init__, "__defaults__", (1, 1))
    found = []
    with serving(models["text"]) as url:
        threads = [threading.Thread(target=lambda: found.append(predict(url, {"item": "a"})[0])) for _ in range(2)]
        threads[0].start()
        assert waiting.acquire(timeout=10)
        threads[1].start()
        while ask(url, "/health")[2]["waiting"] == 0:
            pass
        status, headers, content = ask(url, "/predict", {"item": "a"})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "waiting" in content["error"]["problem"]
        is_free.set()
        for thread in threads:
            thread.join()
    assert found == [200, 200]


def test_an_error_of_one_request_is_not_that_of_others(row_url):
    bodies = [{"item": ROW}, {"item": {"size": 1, "colour": "blue"}}] * 12
    found = [None] * len(bodies)

    def run(i):
        found[i] = predict(row_url, bodies[i])[0]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200, 422] * 12


def test_models_of_something_else_and_addresses_that_are_taken_are_refused(models):
    with pytest.raises(BadValue, match="cannot be served"), serving(synth_learner()):
        pass
    with serving(models["text"]) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        with pytest.raises(BadValue, match="there can be no server") as caught, serving(models["text"], port=port):
            pass
    assert caught.value.fix == "port=0, for any that is free"


def test_the_command_line():
    args = make_parser().parse_args(["serve", "model.layered"])
    assert (args.host, args.port, args.max_mb) == ("127.0.0.1", 8000, 10.0)


def test_ctrl_c_ends_it(models, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = []

    def client():
        url = f"http://127.0.0.1:{port}/"
        while not found:
            with suppress(ConnectionError):
                found.append(predict(url, {"item": ROW})[0])
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=client).start()
    serve(models["row"], port=port)
    printed = capsys.readouterr().out
    assert found == [200]
    assert printed == f"row.layered is served at http://127.0.0.1:{port}/ (Ctrl-C ends)\nended\n"
