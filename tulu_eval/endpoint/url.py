"""Where an endpoint is, how its paths are made, and which key goes there.

Azure OpenAI has two forms, read from the ``openai`` package (3.54.0, ``lib/azure.py``) and from Microsoft's "API version
lifecycle" page: the classic one, ``https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT/chat/completions`` with
``?api-version=DATE``, where all but a deployment's own endpoints hang below ``/openai``; and ``.../openai/v1``, which needs no
version and takes the deployment's name as the model. Both take the key in the header ``api-key``.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from tulu_eval.errors import UserError

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_URL = f"https://{OPENAI_HOST}/v1"

AZURE_HOSTS = (".openai.azure.com", ".openai.azure.us", ".cognitiveservices.azure.com", ".services.ai.azure.com")
"""Ends of the host names of Azure's own resources; a gateway before one has any name, and is known by its ``api-version``."""

AZURE_KEY = "AZURE_OPENAI_API_KEY"
"""As the ``openai`` package calls it."""

_DEPLOYMENTS = "/deployments/"
_AZURE_FORMS = (
    "https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=DATE or https://NAME.openai.azure.com/openai/v1"
)


class BaseUrl(NamedTuple):
    """Where an endpoint is.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Name or address; an IPv6 address without its brackets.
        port: Of TCP.
        path: Without a slash at its end.
        api_version: Of Azure, sent with every request; empty elsewhere.
    """

    scheme: str
    host: str
    port: int
    path: str
    api_version: str = ""

    def __str__(self) -> str:
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}{self._query}"

    @property
    def _query(self) -> str:
        return f"?api-version={self.api_version}" if self.api_version else ""

    @property
    def azure(self) -> bool:
        """Whether it is Azure's: its key goes into the header ``api-key``, and what it lists is not what is deployed."""
        return bool(self.api_version) or self.host.endswith(AZURE_HOSTS)

    @property
    def deployment(self) -> str:
        """The deployment that the path names; empty where it names none."""
        return urllib.parse.unquote(self.path.partition(_DEPLOYMENTS)[2])

    @property
    def hint(self) -> str:
        """What to say where nothing is found at the address."""
        usual = self.azure or re.search(r"/v\d", self.path)
        return "" if usual else "; a base URL usually ends in /v1"

    def target(self, path: str, model: str = "") -> str:
        """Returns what a request asks the host for.

        Args:
            path: Below the base URL, such as ``/chat/completions``.
            model: That the request names; empty for a request about the endpoint itself.
        """
        base = self.path
        if self.api_version and not model:
            base = base.partition(_DEPLOYMENTS)[0]
        elif self.api_version and base.endswith("/openai"):
            base += _DEPLOYMENTS + urllib.parse.quote(model, safe="")
        return base + path + self._query


def parse_base_url(text: str, owner: str = "the endpoint") -> BaseUrl:
    """Returns the parts of a base URL such as ``https://api.openai.com/v1``.

    Args:
        text: The URL.
        owner: Whose it is, for messages.

    Raises:
        UserError: It is not one, or has a user name, a password, or a query other than Azure's version in it.
    """
    looks = f"{owner}'s base URL cannot be read; it should look like https://HOST:PORT/v1"
    try:
        parts = urllib.parse.urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            host = host.replace("%25", "%")  # a zone of an IPv6 address, as RFC 6874 writes it
        else:
            host.encode("idna")
    except ValueError as error:
        raise UserError(looks) from error
    if parts.scheme not in ("http", "https") or not host or port == 0:
        shown = "" if set("@?#") & set(text) else f" {text!r}"  # what stands around these may be a secret
        raise UserError(f"{owner}'s base URL{shown} should look like https://HOST:PORT/v1")
    if "@" in parts.netloc or parts.fragment:
        raise UserError(f"{owner}'s base URL must have no user, password or fragment in it; keys come from the environment")
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~").rstrip("/")
    path = path.removesuffix("/completions").removesuffix("/chat")
    url = BaseUrl(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path, _version(parts.query, owner))
    if url.api_version and not path:
        return url._replace(path="/openai")
    if url.azure and not url.api_version and not path.endswith("/v1"):
        raise UserError(f"{owner}'s base URL at Azure should look like {_AZURE_FORMS}")
    return url


def _version(query: str, owner: str) -> str:
    """Returns the ``api-version`` of a query; raises for any other."""
    fields = urllib.parse.parse_qsl(query, keep_blank_values=True)
    if not fields and not query:
        return ""
    if [name for name, _ in fields] != ["api-version"] or not re.fullmatch(r"[\w.-]{1,40}", fields[0][1], re.ASCII):
        raise UserError(
            f"{owner}'s base URL must have no query in it but Azure's ?api-version=DATE; keys come from the environment"
        )
    return fields[0][1]


def key_for(url: BaseUrl, environment: Mapping[str, str], variable: str) -> str:
    """Returns the key for an endpoint: the variable's, else for OpenAI's or Azure's own hosts, and no others, their own.

    Args:
        url: Of the endpoint.
        environment: Of this process.
        variable: Name of the variable for this use.

    Raises:
        UserError: Such a host, and neither is set.
    """
    key = environment.get(variable, "").strip()
    own = OPENAI_KEY if url.host == OPENAI_HOST else AZURE_KEY if url.host.endswith(AZURE_HOSTS) else ""
    if not key and own:
        key = environment.get(own, "").strip()
        if not key:
            raise UserError(f"asking {url.host} needs a key in the environment variable {own}")
    return key
