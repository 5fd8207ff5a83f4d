# SPDX-License-Identifier: Apache-2.0
"""A lab of two nodes whose pods know each other by their objects: `client` and `local` on n1, `server` on n2."""

import json

PLACES = {"client": ("n1", 1, 10), "local": ("n1", 1, 11), "server": ("n2", 2, 10)}
LAB = "[nodes.n1]\n[nodes.n2]\n" + "".join(f"""
[pods.{name}]
node = "{node}"
service_account = "{name}"
""" for name, (node, _, _) in PLACES.items())


def pod_object(name, node, number, last):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "serviceAccountName": name, "containers": [{"name": "app"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                       "podIPs": [{"ip": f"10.244.{number}.{last}"}, {"ip": f"fd00:244:0:{number}::{last:x}"}]}}


def pod_list(places):
    """{file: text} of the objects of {pod: (node, number of the node, last part of its address)}."""
    items = [pod_object(name, *place) for name, place in places.items()]
    return {"pods.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": items})}


MANIFESTS = pod_list(PLACES)


def paths(lab, node, port):
    """The paths that `weftctl connections` of a node gives to the connections of an application's port."""
    return {c["path"] for c in lab.weftctl("connections", node=node)["connections"] if c["destination"]["port"] == port}
