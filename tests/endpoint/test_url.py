"""Addresses of endpoints, Azure's among them, and which key goes where."""

from __future__ import annotations

import pytest

from tulu_eval.endpoint.client import Client
from tulu_eval.endpoint.url import key_for, parse_base_url
from tulu_eval.errors import UserError

NAME = "TULU_EVAL_JUDGE_KEY"
AZURE = "https://mine.openai.azure.com/openai/deployments/my-gpt?api-version=2024-10-21"


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://host/v1", "host:80", "http://", "http://user:secret@host/v1", "http://secret@host/v1", "user:secret@host/v1",
        "http://host/v1?key=secret", "http://host/v1?api-version=1&key=secret", "http://host/v1#secret", "http://host:port/v1",
        "http://host:0/v1", "http://host:99999/v1", "http://[::1/v1", "http://a..b/v1", f"http://{'a' * 80}.b/v1",
        "http://host/v1?api-version=", "http://host/v1?api-version=a%20b", "http://host/v1?api-version",
        "https://mine.openai.azure.com", "https://mine.openai.azure.com/openai/deployments/my-gpt", "//host/v1?key=secret",
    ],
)  # fmt: skip
def test_a_bad_base_url_is_one_line_without_its_secrets(url: str) -> None:
    with pytest.raises(UserError) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1///", "http://127.0.0.1:8000/v1"),
        (" https://api.openai.com/v1/chat/completions ", "https://api.openai.com:443/v1"),
        ("http://[::1]:8732/v1", "http://[::1]:8732/v1"),
        ("http://[::1]/v1/", "http://[::1]:80/v1"),
        ("http://[fe80::1%25eth0]:8000/v1", "http://[fe80::1%25eth0]:8000/v1"),
        ("http://[2001:db8::2]:8000", "http://[2001:db8::2]:8000"),
        ("http://localhost:8000/my models/ü", "http://localhost:8000/my%20models/%C3%BC"),
        (AZURE, "https://mine.openai.azure.com:443/openai/deployments/my-gpt?api-version=2024-10-21"),
        ("https://mine.openai.azure.com/openai/v1/", "https://mine.openai.azure.com:443/openai/v1"),
    ],
)
def test_an_address_is_read_again_as_it_is_shown(text: str, shown: str) -> None:
    url = parse_base_url(text)
    assert str(url) == shown
    assert "%25" not in url.host
    assert parse_base_url(shown) == url


@pytest.mark.parametrize(
    ("text", "chat", "models"),
    [
        ("http://h/v1", "/v1/chat/completions", "/v1/models"),
        (AZURE, "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", "/openai/models?api-version=2024-10-21"),
        ("http://h/openai?api-version=1", "/openai/deployments/a%2Fb/chat/completions?api-version=1",
         "/openai/models?api-version=1"),
        ("http://h?api-version=1", "/openai/deployments/a%2Fb/chat/completions?api-version=1", "/openai/models?api-version=1"),
        ("http://h/openai/v1?api-version=preview", "/openai/v1/chat/completions?api-version=preview",
         "/openai/v1/models?api-version=preview"),
        ("https://mine.openai.azure.com/openai/v1", "/openai/v1/chat/completions", "/openai/v1/models"),
        ("https://m.services.ai.azure.com/models?api-version=1", "/models/chat/completions?api-version=1",
         "/models/models?api-version=1"),
    ],
)  # fmt: skip
def test_paths_are_those_of_the_openai_package(text: str, chat: str, models: str) -> None:
    url = parse_base_url(text)
    assert url.target("/chat/completions", "a/b") == chat
    assert url.target("/models") == models


def test_the_openai_package_goes_to_the_same_places() -> None:
    openai = pytest.importorskip("openai")
    client = openai.AzureOpenAI(api_key="k", api_version="2024-10-21", azure_endpoint="https://mine.openai.azure.com")
    body = {"model": "my-gpt"}
    options = openai._models.FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=body)
    request = client._build_request(options)
    url = parse_base_url(AZURE)
    assert str(request.url) == f"https://{url.host}{url.target('/chat/completions', 'my-gpt')}"
    assert request.headers["api-key"] == "k"
    assert url.azure
    assert url.deployment == "my-gpt"


def test_a_key_with_a_line_break_is_not_shown() -> None:
    with pytest.raises(UserError) as caught:
        Client("http://127.0.0.1:1/v1", key="sk-abc\ndef")
    assert "sk-abc" not in str(caught.value)


def test_a_key_goes_only_where_it_belongs() -> None:
    keys = {"OPENAI_API_KEY": "sk-openai", "AZURE_OPENAI_API_KEY": "az", "TULU_EVAL_JUDGE_KEY": ""}
    assert key_for(parse_base_url("https://api.openai.com/v1"), keys, NAME) == "sk-openai"
    assert key_for(parse_base_url(AZURE), keys, NAME) == "az"
    for other in ("http://127.0.0.1:8000/v1", "https://api.openai.com.example.org/v1", "http://h/openai?api-version=1",
                  "https://openai.azure.com.example.org/v1"):  # fmt: skip
        assert key_for(parse_base_url(other), keys, NAME) == ""
        assert key_for(parse_base_url(other), {**keys, "TULU_EVAL_JUDGE_KEY": "mine"}, NAME) == "mine"
    with pytest.raises(UserError, match="environment variable OPENAI_API_KEY"):
        key_for(parse_base_url("https://api.openai.com/v1"), {}, NAME)
    with pytest.raises(UserError, match="environment variable AZURE_OPENAI_API_KEY"):
        key_for(parse_base_url(AZURE), {}, NAME)
