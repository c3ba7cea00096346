"""Model servers: what they should answer with, what they do, and the way from one to the other."""

from tunestream.serving.folders import AdapterFolders
from tunestream.serving.plan import Desired, Load, Loaded, Target, Unload, plan, served_name, serves, targets
from tunestream.serving.servers import ModelServer, ServerFault

__all__ = [
    "AdapterFolders",
    "Desired",
    "Load",
    "Loaded",
    "ModelServer",
    "ServerFault",
    "Target",
    "Unload",
    "plan",
    "served_name",
    "serves",
    "targets",
]
