"""The address of an endpoint, the paths of its requests, and the key for it.

Azure OpenAI has two forms. The classic form is ``https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT/chat/completions``
with ``?api-version=DATE``; all endpoints but a deployment's own are below ``/openai``. The form ``.../openai/v1`` needs no
version and takes the deployment's name as the model. Both take the key in the header ``api-key``. Sources: the ``openai``
package (3.54.0, ``lib/azure.py``) and Microsoft's "API version lifecycle" page.
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
"""Endings of the host names of Azure's own resources. A gateway may have any name; its ``api-version`` identifies it."""

AZURE_KEY = "AZURE_OPENAI_API_KEY"
"""The ``openai`` package uses this name too."""

_DEPLOYMENTS = "/deployments/"
_AZURE_FORMS = (
    "https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=DATE or https://NAME.openai.azure.com/openai/v1"
)


class BaseUrl(NamedTuple):
    """The address of an endpoint.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Host name or IP address; an IPv6 address has no brackets.
        path: Path without a trailing slash.
        api_version: Azure's API version, sent with every request; empty elsewhere.
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
        """Whether this is Azure: the key goes into the header ``api-key``, and the listed models are not the deployed ones."""
        return bool(self.api_version) or self.host.endswith(AZURE_HOSTS)

    @property
    def deployment(self) -> str:
        """The Azure deployment in the path; empty if there is none."""
        return urllib.parse.unquote(self.path.partition(_DEPLOYMENTS)[2])

    @property
    def hint(self) -> str:
        """Hint for an error message if nothing answers at the address; empty if the path looks usual."""
        usual = self.azure or re.search(r"/v\d", self.path)
        return "" if usual else "; a base URL usually ends in /v1"

    def target(self, path: str, model: str = "") -> str:
        """Returns a request's target: its path and query.

        ``path`` is below the base URL, e.g. ``/chat/completions``; ``model`` is empty for a request about the endpoint itself.
        """
        base = self.path
        if self.api_version and not model:
            base = base.partition(_DEPLOYMENTS)[0]
        elif self.api_version and base.endswith("/openai"):
            base += _DEPLOYMENTS + urllib.parse.quote(model, safe="")
        return base + path + self._query


def parse_base_url(text: str, owner: str = "the endpoint") -> BaseUrl:
    """Returns the parts of a base URL such as ``https://api.openai.com/v1``; ``owner`` names the endpoint in messages.

    Raises:
        UserError: If it is not a base URL, or has a user name, a password, a fragment, or a query other than Azure's version.
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
        shown = "" if set("@?#") & set(text) else f" {text!r}"  # the text around these characters may be a secret
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
    """Returns the ``api-version`` of a query, empty for none; raises UserError for any other query."""
    fields = urllib.parse.parse_qsl(query, keep_blank_values=True)
    if not fields and not query:
        return ""
    if [name for name, _ in fields] != ["api-version"] or not re.fullmatch(r"[\w.-]{1,40}", fields[0][1], re.ASCII):
        raise UserError(
            f"{owner}'s base URL must have no query in it but Azure's ?api-version=DATE; keys come from the environment"
        )
    return fields[0][1]


def key_for(url: BaseUrl, environment: Mapping[str, str], variable: str) -> str:
    """Returns the key for an endpoint, empty for none.

    The key is the value of ``variable``. If that is not set, OpenAI's or Azure's own hosts, and no others, get the value of
    :data:`OPENAI_KEY` or :data:`AZURE_KEY`.

    Raises:
        UserError: If the host is OpenAI's or Azure's and neither variable is set.
    """
    key = environment.get(variable, "").strip()
    own = OPENAI_KEY if url.host == OPENAI_HOST else AZURE_KEY if url.host.endswith(AZURE_HOSTS) else ""
    if not key and own:
        key = environment.get(own, "").strip()
        if not key:
            raise UserError(f"asking {url.host} needs a key in the environment variable {own}")
    return key
