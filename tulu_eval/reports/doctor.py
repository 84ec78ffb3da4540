"""What ``doctor`` found, for people."""

from __future__ import annotations

from tulu_eval.findings.doctor import Installation


def as_text(found: Installation) -> str:
    """Returns one block per field, and how to install each extra that is missing."""
    extras = {
        name: "installed" if extra.installed else f"missing: pip install 'tulu-eval[{name}]'"
        for name, extra in found.extras.items()
    }
    blocks = {
        "packages": [f"{name} {version}" for name, version in found.packages.items()],
        "machine": [f"{name} {value}" for name, value in found.machine.items()],
        "devices": found.devices,
        "hub": [found.hub],
        "sandbox": [found.sandbox],
        "disk free": [
            f"{name} {free}" if isinstance(free, str) else f"{name} {free:.0f} GB" for name, free in found.disk_free_gb.items()
        ],
        "extras": [f"{name}: {extra.adds} ({extras[name]})" for name, extra in found.extras.items()],
    }
    return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in blocks.items())
