"""The options that say how an engine is built, for every verb that generates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import click

from tulu_eval.cli.names import complete
from tulu_eval.cli.numeric import NUMBER, WHOLE

if TYPE_CHECKING:
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.models.base import Prompts

F = TypeVar("F", bound=Callable[..., Any])


class EngineOptions(TypedDict):
    """Values of the options."""

    base_url: str | None
    served_name: str
    prompts: Prompts
    timeout: float
    dtype: str
    device: str
    batch_size: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int | None
    cluster: str | None
    gpu_memory_utilization: float
    max_model_len: int
    quantization: str
    adapter: str
    trust_remote_code: bool
    allow_pickle: bool


_OPTIONS = (
    click.option("--backend", default="auto", show_default=True, shell_complete=complete("tulu_eval.backends"),
                 help="Engine: transformers, vllm, or openai for a server; auto is openai with --base-url, else vllm where it "
                 "is installed beside a GPU."),
    click.option("--base-url", metavar="URL", help="openai: base URL of the server, e.g. http://localhost:8000/v1. Its key "
                 "comes from TULU_EVAL_SERVER_KEY, for OpenAI's own also from OPENAI_API_KEY, for Azure's from "
                 "AZURE_OPENAI_API_KEY. At Azure: https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=DATE"
                 ", or https://NAME.openai.azure.com/openai/v1."),
    click.option("--served-name", default="", help="openai: the model's name at the server; that of --model unless given."),
    click.option("--prompts", default="auto", show_default=True, type=click.Choice(["auto", "tokens", "text", "chat"]),
                 help="openai: send token ids, text, or a chat turn for the server's own template, which makes another "
                 "number; auto is tokens where tokenizer and server allow it, else chat."),
    click.option("--timeout", type=NUMBER, default=600.0, show_default=True, help="openai: seconds for one answer."),
    click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "bfloat16", "float16", "float32"]),
                 help="auto: as the model's config says."),
    click.option("--device", default="auto", show_default=True,
                 help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:1, mps."),
    click.option("--batch-size", type=WHOLE, default=0,
                 help="Rows decoded together, or requests in flight to a server; chosen by the backend unless given."),
    click.option("--tensor-parallel", type=WHOLE, default=1, help="vLLM: devices that share each layer."),
    click.option("--pipeline-parallel", type=WHOLE, default=1, help="vLLM: groups of GPUs that share the layers."),
    click.option("--data-parallel", type=WHOLE,
                 help="vLLM, or on a cluster: engines, each with the whole model on devices of its own."),
    click.option("--cluster", metavar="ray|HOST:PORT", help="Engines on the nodes of a Ray cluster: one of this machine's own, "
                 "or a running one's address, from one of its nodes; --data-parallel of them, or as many as fit."),
    click.option("--gpu-memory-utilization", type=NUMBER, default=0.92, help="vLLM: fraction of a device's memory to use."),
    click.option("--max-model-len", type=WHOLE, default=0,
                 help="vLLM: positions of the longest request; the longest one's unless given."),
    click.option("--quantization", default="",
                 help="vLLM: how weights are quantised, e.g. fp8; as the checkpoint says unless given."),
    click.option("--adapter", default="", type=click.Path(), help="vLLM: folder of a LoRA adapter."),
    click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model."),
    click.option("--allow-pickle", is_flag=True, help="Load pickle weights, which can run any code."),
)  # fmt: skip


def engine_options(verb: F) -> F:
    """Adds the options to a verb, in their order."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def settings_of(**given: Unpack[EngineOptions]) -> EngineSettings:
    """Returns the options' settings; raises click.UsageError if an option of servers is given without a server."""
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.models.base import Served

    url, name, prompts, timeout = given["base_url"], given["served_name"], given["prompts"], given["timeout"]
    if not url:
        for option, there in {"served-name": name != "", "prompts": prompts != "auto", "timeout": timeout != 600.0}.items():
            if there:
                raise click.UsageError(f"--{option} goes with --base-url", click.get_current_context())
    engines = given["data_parallel"]
    if engines is None:
        engines = 0 if given["cluster"] is not None else 1
    return EngineSettings(
        dtype=given["dtype"], device=given["device"], batch_size=given["batch_size"],
        trust_remote_code=given["trust_remote_code"], allow_pickle=given["allow_pickle"],
        tensor_parallel=given["tensor_parallel"], pipeline_parallel=given["pipeline_parallel"],
        data_parallel=engines, cluster=given["cluster"], gpu_memory_utilization=given["gpu_memory_utilization"],
        max_model_len=given["max_model_len"], quantization=given["quantization"], adapter=given["adapter"],
        served=Served(url, name, prompts, timeout) if url else None,
    )  # fmt: skip
