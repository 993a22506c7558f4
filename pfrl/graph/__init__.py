"""The graph of a network: layers, channel groups and the program that runs without some of them."""

from pfrl.graph.count import Count, total
from pfrl.graph.groups import Group, Member
from pfrl.graph.layers import Layer
from pfrl.graph.sites import Site, SiteError
from pfrl.graph.source import Source, Variables, from_nnx, split_variables, update_nnx
from pfrl.graph.tracing import Graph, GraphError, trace

__all__ = [
    "Count",
    "Graph",
    "GraphError",
    "Group",
    "Layer",
    "Member",
    "Site",
    "SiteError",
    "Source",
    "Variables",
    "from_nnx",
    "split_variables",
    "total",
    "trace",
    "update_nnx",
]
