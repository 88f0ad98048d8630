"""Drawings of workflows and of their runs: Mermaid, SVG, and pages without any network."""

from anabranch.workflow.drawing.draw import (
    draw_all_possible_flows,
    draw_all_possible_flows_mermaid,
    draw_all_possible_flows_svg,
    draw_most_recent_execution,
    draw_most_recent_execution_mermaid,
    draw_most_recent_execution_svg,
)

__all__ = [
    "draw_all_possible_flows",
    "draw_all_possible_flows_mermaid",
    "draw_all_possible_flows_svg",
    "draw_most_recent_execution",
    "draw_most_recent_execution_mermaid",
    "draw_most_recent_execution_svg",
]
