"""A Plan, or a server's quote, in a few lines for people: what `--dry-run` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from upscale.cli.console import printable
from upscale.engine.plan import PassPlan, Plan


def described(source: Path, target: Path, plan: Plan) -> str:
    """What would be made of `source`, how, how long it would take and what memory."""
    output, probe = plan.output, plan.probe
    lines = [
        f"{printable(source)} -> {printable(target)}",
        f"  {probe.width}x{probe.height} {probe.format} -> {output.width}x{output.height} "
        f"{output.format}, {output.depth} bits, {output.channels} channels",
        f"  {plan.network.name} ({plan.contract.architecture}), {plan.precision} on {plan.device}",
        *(f"  {_pass(step)}" for step in plan.passes),
        f"  about {plan.expected_seconds:.1f} s and {plan.expected_bytes / 1e6:.0f} MB",
    ]
    return "\n".join(lines)


def described_quote(source: Path, target: Path, quote: dict[str, Any]) -> str:
    """The same of a server's answer, as far as it tells, and what it would cost."""
    lines = [f"{printable(source)} -> {printable(target)}"]
    plan = quote.get("plan")
    if isinstance(plan, dict):
        lines += _planned(plan)
    micros = quote.get("total_cost_micros")
    if isinstance(micros, int):
        by = f", by {quote['model']} ({quote.get('provider')})" if "model" in quote else ""
        lines.append(f"  costs {micros / 1e6:.6f} {quote.get('currency', 'USD')}{by}")
    return "\n".join(printable(line) for line in lines)


def _planned(plan: dict[str, Any]) -> list[str]:
    """The lines of a plan that may be another version's."""
    try:
        probe, output = plan["probe"], plan["output"]
        return [
            f"  {probe['width']}x{probe['height']} {probe['format']} -> "
            f"{output['width']}x{output['height']} {output['format']}, {output['depth']} bits, "
            f"{output['channels']} channels",
            f"  {plan['network']['name']} ({plan['contract']['architecture']}), "
            f"{plan['precision']} on {plan['device']}, {plan['tiles']} tiles",
            f"  about {plan['expected_seconds']:.1f} s and {plan['expected_bytes'] / 1e6:.0f} MB",
        ]
    except (LookupError, TypeError, ValueError):
        return [f"  {plan['size']}"] if "size" in plan else []


def _pass(step: PassPlan) -> str:
    size, tiles = step.size, step.tiles
    text = f"pass {size.in_width}x{size.in_height} -> {size.native_width}x{size.native_height}"
    if size.resamples:
        text += f" -> {size.out_width}x{size.out_height}"
    seam = "" if tiles.seam_error is None else f", seam error {tiles.seam_error:.2f} levels"
    noun = "tile" if tiles.count == 1 else "tiles"
    return (
        f"{text}: {tiles.count} {noun} of {tiles.core_width}x{tiles.core_height} "
        f"with a margin of {tiles.margin}, {tiles.mode}{seam}"
    )
