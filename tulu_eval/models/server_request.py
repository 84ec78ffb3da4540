"""The request to an OpenAI-compatible server for one prompt."""

from __future__ import annotations

import dataclasses
from typing import Any

from tulu_eval.models.base import Served
from tulu_eval.models.server import Server
from tulu_eval.records import Decoding, Request, Turn


@dataclasses.dataclass(frozen=True, slots=True)
class RequestForm:
    """The form of a server's requests, which differ in their prompts only.

    Attributes:
        served: The server with ``name`` and ``prompts`` settled.
        eos_ids: Tokens that end a completion, for a server that takes them.
        max_length: Positions of the longest row; 0 if the prompts' lengths are not known here.
        limit_field: Field with the limit of new tokens; OpenAI's newer chat models refuse the older name, and many servers
            do not know the newer one.
    """

    served: Served
    server: Server
    eos_ids: tuple[int, ...]
    max_length: int
    limit_field: str = "max_tokens"

    @property
    def path(self) -> str:
        """Path of the endpoint."""
        return "/chat/completions" if self.served.prompts == "chat" else "/completions"

    def limit(self, request: Request, decoding: Decoding) -> int:
        """Returns the limit of new tokens for a request."""
        room = self.max_length - len(request.token_ids)
        return min(decoding.max_new_tokens, room) if self.served.prompts == "tokens" else decoding.max_new_tokens

    def body(self, request: Request, decoding: Decoding) -> dict[str, Any]:
        """Returns the body of a request, with every field whose default differs between servers."""
        chat = self.served.prompts == "chat"
        body: dict[str, Any] = {
            "model": self.served.name,
            self.limit_field: self.limit(request, decoding),
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "n": 1,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": False,
        }
        if chat:
            body["messages"] = [turn._asdict() for turn in request.turns or (Turn("user", request.text),)]
        else:
            body["prompt"] = list(request.token_ids) if self.served.prompts == "tokens" else request.text
        if decoding.stop:
            body["stop"] = list(decoding.stop)
        if not decoding.greedy:
            body["seed"] = decoding.draws(request.key).getrandbits(63)
        if self.server.is_vllm:
            body |= {
                "top_k": decoding.top_k,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "min_tokens": 0,
                "skip_special_tokens": True,
                "return_token_ids": True,
            }
            if self.eos_ids:
                body |= {"ignore_eos": True, "stop_token_ids": list(self.eos_ids), "include_stop_str_in_output": True}
        return body
