"""Secrets are masked where their name, their place or their shape gives them away, and nothing else is."""

from __future__ import annotations

import time

import pytest

from layered.foundation import is_secret_name, masked, masked_command, without_folders

SECRET = "s3cr3t/with+signs"


@pytest.mark.parametrize(
    "text",
    [
        f"--token={SECRET}",
        f"WANDB_API_KEY={SECRET}",
        f"{{'password': '{SECRET}'}}",
        f'{{"apiKey": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"Tracker(project='pets', hub_token='{SECRET}')",
        "postgres://ada:s3cr3t@host/db",
        "https://s3cr3t@github.com/ada/pets",
        "https://host/x.tgz?X-Amz-Signature=s3cr3t&n=1",
        "https://host/x.tgz?n=1&sig=s3cr3t",
        "login with hf_s3cr3tABCDEFGHIJKLMN",
        "ghp_s3cr3tABCDEFGHIJKLMN",
        "AWS_SECRET_ACCESS_KEY: s3cr3t",
    ],
)
def test_a_secret_is_masked(text):
    assert "s3cr3t" not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "fit(n_epoch=3, lr=0.001)",
        "Tokenizer(max_tokens=512, sort_key=len, pattern='x', author='ada')",
        "Loss(token=None, auth=False)",
        "https://host/x.tgz?n=1",
        "Path('/home/ada/keys/monkey.png')",
        "d24c746fe728ef780164b132e746",
    ],
)
def test_other_words_stay(text):
    assert masked(text) == text


def test_an_option_and_its_secret_may_be_two_arguments():
    command = ["train.py", "--hub-token", "s3cr3t", "--bs", "64", "--api_key=s3cr3t", "DB_PASS=s3cr3t and more", "pets"]
    assert masked_command(command) == [
        "train.py",
        "--hub-token",
        "***",
        "--bs",
        "64",
        "--api_key=***",
        "DB_PASS=***",
        "pets",
    ]


def test_what_a_secret_variable_holds_is_masked_anywhere(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "correct horse")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false positive")
    assert masked("a correct horse, false positive") == "a ***, false positive"


def test_long_texts_take_little_time():
    began = time.process_time()
    for text in ("a" * 10**6, "a=" * 10**5, "://" * 10**5, "eyJ" * 10**5, "'/" * 10**5):
        masked(text), without_folders(text)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("ColReader('f', pref='/home/ada/pets/')", "ColReader('f', pref='…/pets/')"),
        ("partial(f, Path('/home/ada/pets'))", "partial(f, Path('…/pets'))"),
        (r"pref='C:\Users\ada\pets\\'", r"pref='…/pets\\'"),
        ("ColReader('f', pref='pets/', suff='.png')", "ColReader('f', pref='pets/', suff='.png')"),
    ],
)
def test_folders_are_left_out_of_paths(text, short):
    assert without_folders(text) == short


def test_names_of_secrets():
    assert all(map(is_secret_name, ("HF_TOKEN", "--password", "apiKey", "KAGGLE_KEY", "AWS_ACCESS_KEY_ID", "oauth")))
    assert not any(
        map(is_secret_name, ("tokens", "pattern", "keys", "signature", "passes", "design", "author", "path"))
    )
