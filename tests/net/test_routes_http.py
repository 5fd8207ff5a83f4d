# SPDX-License-Identifier: Apache-2.0
"""
The cases of the Gateway API for meshes (v1.6: MESH-HTTP core and extended, and those of gateways that are cases of a
data plane as well) as tables: rules of a route, requests, and who must have answered what. Each case has a Service of
its own in front, so all of them stand at once.
"""

import collections
import dataclasses
import threading
import time
import urllib.parse

import http_peers
import labrun
import pytest
import routed
from http_peers import client
from routed import GATEWAY, backend, origins, origins_are_content, route, rule  # noqa: F401

SPLICE = ("splice",)
LAB = routed.LAB
NEAR, NEAR2, FAR, FAR2 = (backend(name) for name in routed.BACKENDS)


@dataclasses.dataclass
class Ask:
    """A request, and what must come of it; what is not said is not looked at."""

    path: str = "/"
    who: str = None
    status: int = 200
    method: str = "GET"
    host: str = "example.org"
    headers: tuple = ()
    pod: str = "client"
    port: int = 80
    location: str = None
    seen_path: str = None
    seen_host: str = None
    sees: dict = dataclasses.field(default_factory=dict)  # by the backend: {name: value, or None: not there}
    gets: dict = dataclasses.field(default_factory=dict)  # by the client


class Case:
    made = {}

    def __init__(self, name, objects, *asks):
        self.name, self.asks = name, asks
        self.number = len(self.made) + 1
        self.vip = f"10.96.9.{self.number}"
        self.objects = [routed.service(name, self.vip, [("http", 80, 8081, None), ("http-2", 81, 8081, None)], "near2"),
                        *objects]
        self.made[name] = self


def case(name, rules, *asks, **more):
    """The usual one: a single HTTPRoute."""
    return Case(name, [route(name, name, rules, **more)], *asks)


def headers(where="Request", **change):
    """`set`, `add`: {name: value}; `remove`: names"""
    spec = {how: [{"name": n, "value": v} for n, v in change[how].items()] for how in ("set", "add") if how in change}
    return {"type": f"{where}HeaderModifier", f"{where.lower()}HeaderModifier":
            spec | ({"remove": list(change["remove"])} if "remove" in change else {})}


def redirect(**spec):
    return {"type": "RequestRedirect", "requestRedirect": spec}


def rewrite(**spec):
    return {"type": "URLRewrite", "urlRewrite": spec}


def mirror(name, **share):
    return {"type": "RequestMirror", "requestMirror": {"backendRef": backend(name)} | share}


def matches(*several, to):
    return {"matches": list(several), "backendRefs": [to]}


def path(value, kind="PathPrefix", **more):
    return {"path": {"type": kind, "value": value}} | more


def header(**named):
    return {"headers": [{"name": n.replace("_", "-"), "value": v} for n, v in named.items()]}


def query(**named):
    return {"queryParams": [{"name": n, "value": v} for n, v in named.items()]}


full, prefix = (lambda p: {"type": "ReplaceFullPath", "replaceFullPath": p}), \
    (lambda p: {"type": "ReplacePrefixMatch", "replacePrefixMatch": p})

# ------------------------------------------------------------------ matching

case("simple", [rule(FAR)], Ask("/", "far"), Ask("/any/thing?x=1", "far", seen_path="/any/thing?x=1"),
     *(Ask("/", "far", host=host, seen_host=host) for host in ("simple", "simple.default", "simple.default.svc",
                                                               "simple.default.svc.cluster.local", "near.default")))

case("matching", [matches(path("/"), header(version="one"), to=NEAR),
                  matches(path("/v2"), header(version="two"), to=FAR2)],
     Ask("/", "near"), Ask("/example", "near"), Ask("/", "near", headers=[("Version", "one")]),
     Ask("/v2", "far2"), Ask("/v2/", "far2"), Ask("/v2/example", "far2"), Ask("/v2example", "near"),
     Ask("/foo/v2/example", "near"), Ask("/", "far2", headers=[("Version", "two")]),
     Ask("/", "near", headers=[("Version", "three")]), Ask("/v2?q", "far2"), Ask("/%76%32", "far2"),
     Ask("/x/../v2", "far2"), Ask("/v2/../x", "near"))

case("path-order", [rule(FAR2, path="/match/exact/one", kind="Exact"), rule(FAR, path="/match/exact", kind="Exact"),
                    rule(NEAR, path="/match", kind="Exact"), rule(NEAR2, path="/match/prefix/one/"),
                    rule(FAR, path="/match/prefix/"), rule(NEAR, path="/match/")],
     Ask("/match/exact/one", "far2"), Ask("/match/exact", "far"), Ask("/match", "near"),
     Ask("/match/prefix/one/any", "near2"), Ask("/match/prefix/any", "far"), Ask("/match/any", "near"),
     Ask("/match/exact/one/", "near"), Ask("/matchless", status=404), Ask("/", status=404))

Case("across", [
    route("across-1", "across", [matches(path("/"), header(version="one"), to=NEAR)]),
    route("across-2", "across", [matches(path("/v2"), header(version="two"), to=FAR2)]),
    route("across-3", "across", [matches(header(Host="far.example"), to=FAR)], hostnames=["ignored.example"])],
     Ask("/", "near"), Ask("/example", "near"), Ask("/", "near", headers=[("Version", "one")]), Ask("/v2", "far2"),
     Ask("/", "far2", headers=[("Version", "two")]), Ask("/v2/example", "far2"),
     Ask("/", "far", host="far.example"), Ask("/", "near", host="ignored.example"))

case("header-matching", [
    matches(header(version="one"), to=NEAR), matches(header(version="two"), to=FAR),
    matches(header(version="two", color="orange"), to=NEAR),
    matches(header(color="blue"), header(color="green"), to=NEAR),
    matches(header(color="red"), header(color="yellow"), to=FAR2)],
     Ask(who="near", headers=[("Version", "one")]), Ask(who="far", headers=[("vERSION", "two")]),
     Ask(who="near", headers=[("Version", "two"), ("Color", "orange")]), Ask(who="near", headers=[("Color", "blue")]),
     Ask(who="near", headers=[("Color", "green")]), Ask(who="far2", headers=[("Color", "red")]),
     Ask(who="far2", headers=[("Color", "yellow")]), Ask(status=404, headers=[("Color", "purple")]), Ask(status=404),
     Ask(status=404, headers=[("Version", "ONE")]))

case("header-regex", [
    {"matches": [{"headers": [{"type": "RegularExpression", "name": "agent", "value": "curl/[0-9]+.*"}]}],
     "backendRefs": [FAR]},
    {"matches": [{"path": {"type": "RegularExpression", "value": "/item/[0-9]+"}}], "backendRefs": [FAR2]}],
     Ask(who="far", headers=[("Agent", "curl/8.1")]), Ask(status=404, headers=[("Agent", "wget")]),
     Ask("/item/17", "far2"), Ask("/item/x", status=404))

case("method-matching", [
    matches({"method": "POST"}, to=NEAR), matches({"method": "GET"}, to=FAR),
    matches(path("/path1", method="GET"), to=NEAR), matches(path("/path2") | header(version="one"), to=NEAR),
    matches(path("/path3") | header(version="one") | {"method": "PUT"}, to=FAR2)],
     Ask("/", "near", method="POST"), Ask("/", "far"), Ask("/path1", "near"), Ask("/path1", "near", method="POST"),
     Ask("/path2", "near", method="PUT", headers=[("version", "one")]),
     Ask("/path3", "far2", method="PUT", headers=[("version", "one")]),
     Ask("/path3", status=404, method="PATCH", headers=[("version", "one")]), Ask("/", status=404, method="PUT"))

case("query-matching", [
    matches(query(animal="whale"), to=NEAR), matches(query(animal="dolphin"), to=NEAR2),
    matches(query(animal="dolphin", color="blue"), to=FAR), matches(query(ANIMAL="Whale"), to=FAR2)],
     Ask("/?animal=whale", "near"), Ask("/?animal=dolphin", "near2"), Ask("/?animal=dolphin&color=blue", "far"),
     Ask("/?color=blue&animal=dolphin", "far"), Ask("/?ANIMAL=Whale", "far2"), Ask("/?animal=wh%61le", "near"),
     Ask("/?animal=dog", status=404), Ask("/?animal=whaledolphin", status=404), Ask("/", status=404))

Case("precedence", [
    route("precedence-b", "precedence", [rule(FAR, path="/same")]),
    route("precedence-a", "precedence", [rule(NEAR, path="/same"), rule(FAR2, path="/same")]),
    route("precedence-c", "precedence", [
        rule(FAR2, path="/same", headers=[("x", "1")]), rule(FAR, path="/same", headers=[("x", "1"), ("y", "1")]),
        rule(NEAR2, path="/same", method="GET", query=[("q", "1")])])],
     Ask("/same", "near", method="POST"), Ask("/same", "far2", method="POST", headers=[("x", "1")]),
     Ask("/same", "far", method="POST", headers=[("x", "1"), ("y", "1")]),
     Ask("/same?q=1", "near2", headers=[("x", "1"), ("y", "1")]))

# ------------------------------------------------------------------ filters

case("request-headers", [
    rule(NEAR, path="/set", filters=[headers(set={"X-Header-Set": "set-overwrites-values"})]),
    rule(NEAR, path="/add", filters=[headers(add={"X-Header-Add": "add-appends-values"})]),
    rule(FAR, path="/remove", filters=[headers(remove=["X-Header-Remove"])]),
    rule(FAR, path="/multiple", filters=[headers(
        set={"X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2"},
        add={"X-Header-Add-1": "header-add-1", "X-Header-Add-2": "header-add-2"},
        remove=["X-Header-Remove-1", "X-Header-Remove-2"])]),
    rule(NEAR, path="/case", filters=[headers(set={"X-HEADER-SET": "set"}, remove=["x-header-REMOVE"])])],
     Ask("/set", "near", headers=[("Some-Other-Header", "val")],
         sees={"some-other-header": "val", "x-header-set": "set-overwrites-values"}),
     Ask("/set", "near", headers=[("X-Header-Set", "old")], sees={"x-header-set": "set-overwrites-values"}),
     Ask("/add", "near", sees={"x-header-add": "add-appends-values"}),
     Ask("/add", "near", headers=[("X-Header-Add", "some-value")],
         sees={"x-header-add": "some-value,add-appends-values"}),
     Ask("/remove", "far", headers=[("X-Header-Remove", "x"), ("x-header-remove", "y"), ("Kept", "1")],
         sees={"x-header-remove": None, "kept": "1"}),
     Ask("/multiple", "far", headers=[("X-Header-Set-2", "x"), ("X-Header-Add-2", "y"), ("X-Header-Remove-2", "z"),
                                      ("Another-Header", "val")],
         sees={"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2", "x-header-add-1": "header-add-1",
               "x-header-add-2": "y,header-add-2", "x-header-remove-2": None, "another-header": "val"}),
     Ask("/case", "near", headers=[("x-header-set", "o"), ("X-Header-Remove", "o")],
         sees={"x-header-set": "set", "x-header-remove": None}))

case("response-headers", [
    rule(NEAR, path="/set", filters=[headers("Response", set={"X-Who": "set"})]),
    rule(FAR, path="/add", filters=[headers("Response", add={"X-More": "1"}, remove=["Content-Type"])])],
     Ask("/set", gets={"x-who": "set"}), Ask("/add", gets={"x-more": "1", "content-type": None, "x-who": "far"}))

case("backend-headers", [
    rule(NEAR | {"filters": [headers(set={"X-Set": "s"}, add={"X-Add": "a"}, remove=["X-Remove"])]}, path="/one"),
    rule(FAR | {"filters": [headers("Response", set={"X-Of": "backend"})]},
         path="/two", filters=[headers(set={"X-Of": "rule"})])],
     Ask("/one", "near", headers=[("X-Set", "o"), ("X-Add", "o"), ("X-Remove", "o")],
         sees={"x-set": "s", "x-add": "o,a", "x-remove": None}),
     Ask("/two", "far", sees={"x-of": "rule"}, gets={"x-of": "backend"}))

case("redirect", [
    rule(path="/hostname", filters=[redirect(hostname="example.com")]),
    rule(path="/host-and-status", filters=[redirect(hostname="example.com", statusCode=301)]),
    *(rule(path=f"/{code}", filters=[redirect(statusCode=code)]) for code in (301, 302, 303, 307, 308)),
    rule(path="/original", filters=[redirect(path=prefix("/replacement-prefix"))]),
    rule(path="/full", filters=[redirect(path=full("/full-path-replacement"))]),
    rule(path="/host-path", filters=[redirect(hostname="example.com", path=prefix("/p"), statusCode=302)]),
    rule(path="/port", filters=[redirect(port=8083)]),
    rule(path="/port-80", filters=[redirect(port=80)]),
    rule(path="/port-host", filters=[redirect(port=8083, hostname="example.com", statusCode=301)]),
    rule(path="/scheme", filters=[redirect(scheme="https")]),
    rule(path="/scheme-host-port", filters=[redirect(scheme="https", hostname="example.com", port=8443)]),
    rule(path="/scheme-port-443", filters=[redirect(scheme="https", port=443)])],
     Ask("/hostname", status=302, location="http://example.com/hostname"),
     Ask("/hostname/more?q=1", status=302, location="http://example.com/hostname/more?q=1"),
     Ask("/host-and-status", status=301, location="http://example.com/host-and-status"),
     *(Ask(f"/{code}", status=code, location=f"http://example.org/{code}") for code in (301, 302, 303, 307, 308)),
     Ask("/original/lemon", status=302, location="http://example.org/replacement-prefix/lemon"),
     Ask("/full/path/x", status=302, location="http://example.org/full-path-replacement"),
     Ask("/host-path/a", status=302, location="http://example.com/p/a"),
     Ask("/port", status=302, location="http://example.org:8083/port"),
     Ask("/port-80", status=302, location="http://example.org/port-80"),
     Ask("/port-host", status=301, location="http://example.com:8083/port-host"),
     Ask("/scheme", status=302, location="https://example.org/scheme"),
     Ask("/scheme-host-port", status=302, location="https://example.com:8443/scheme-host-port"),
     Ask("/scheme-port-443", status=302, location="https://example.org/scheme-port-443"))

# The table of the Gateway API's documentation of ReplacePrefixMatch.
PREFIXES = [("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"), ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"), ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/")]
case("prefixes", [rule(NEAR, path=match, headers=[("n", str(n))], filters=[rewrite(path=prefix(new))])
                  for n, (_, match, new, _) in enumerate(PREFIXES)],
     *(Ask(asked, "near", headers=[("n", str(n))], seen_path=sent) for n, (asked, _, _, sent) in enumerate(PREFIXES)))

case("rewrite", [
    rule(NEAR, path="/prefix/one", filters=[rewrite(path=prefix("/one"))]),
    rule(FAR, path="/full/one", filters=[rewrite(path=full("/one"))]),
    rule(FAR, path="/host", filters=[rewrite(hostname="one.example.org")]),
    rule(NEAR, path="/both", filters=[rewrite(hostname="two.example.org", path=prefix("/x")),
                                      headers(set={"X-Was": "rewritten"})])],
     Ask("/prefix/one/two?q=1", "near", seen_path="/one/two?q=1", seen_host="example.org"),
     Ask("/full/one/two?q=1", "far", seen_path="/one?q=1"),
     Ask("/host/a", "far", seen_host="one.example.org", seen_path="/host/a"),
     Ask("/both/y", "near", seen_host="two.example.org", seen_path="/x/y", sees={"x-was": "rewritten"}))

case("backend-rewrite", [
    rule(NEAR | {"filters": [rewrite(hostname="one.example.org", path=prefix("/one"))]}, path="/prefix"),
    rule(FAR | {"filters": [rewrite(path=full("/two"))]}, path="/full"),
    rule(FAR | {"filters": [redirect(hostname="example.com", path=prefix("/three"), statusCode=301)]}, path="/away"),
    rule(NEAR | {"filters": [rewrite(path=full("/backend"))]}, path="/both", filters=[headers(set={"X-Of": "rule"})])],
     Ask("/prefix/x?q=1", "near", seen_path="/one/x?q=1", seen_host="one.example.org"),
     Ask("/full/x?q=1", "far", seen_path="/two?q=1", seen_host="example.org"),
     Ask("/away/x", status=301, location="http://example.com/three/x"),
     Ask("/both/x", "near", seen_path="/backend", sees={"x-of": "rule"}))

CORS = {"type": "CORS", "cors": {
    "allowOrigins": ["https://www.foo.com", "https://*.bar.com"], "allowMethods": ["GET", "OPTIONS"],
    "allowHeaders": ["x-header-1", "x-header-2"], "exposeHeaders": ["x-header-3"], "allowCredentials": True,
    "maxAge": 3600}}
ASKS = [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "x-header-1")]
case("cors", [rule(NEAR, path="/cors", filters=[CORS])],
     Ask("/cors", method="OPTIONS", status=None, headers=[("Origin", "https://www.foo.com"), *ASKS],
         gets={"access-control-allow-origin": "https://www.foo.com", "access-control-allow-credentials": "true",
               "access-control-max-age": "3600", "x-who": None}),
     Ask("/cors", method="OPTIONS", status=None, headers=[("Origin", "https://a.bar.com"), *ASKS],
         gets={"access-control-allow-origin": "https://a.bar.com"}),
     Ask("/cors", method="OPTIONS", status=None, headers=[("Origin", "https://foobar.com"), *ASKS],
         gets={"access-control-allow-origin": None}),
     Ask("/cors", "near", headers=[("Origin", "https://www.foo.com")],
         gets={"access-control-allow-origin": "https://www.foo.com", "access-control-expose-headers": "x-header-3"}),
     Ask("/cors", "near", headers=[("Origin", "https://evil.com")], gets={"access-control-allow-origin": None}),
     Ask("/cors", "near", gets={"access-control-allow-origin": None}))

# ------------------------------------------------------------------ parents, names, backends

Case("ports", [route("ports", "ports", [rule(FAR)], port=80)],
     Ask("/", "far"), Ask("/", "near2", port=81))

Case("both-ports", [
    route("both-ports-80", "both-ports", [rule(FAR)], port=80),
    route("both-ports-all", "both-ports", [rule(NEAR, path="/all")])],
     Ask("/all", "near"), Ask("/", "far"), Ask("/all", "near", port=81), Ask("/", status=404, port=81))

case("named", [rule(NEAR, path="/one", name="first"), rule(FAR, path="/two", name="second")],
     Ask("/one", "near"), Ask("/two", "far"))

Case("consumer", [
    route("producer", "consumer", [rule(NEAR, filters=[headers("Response", set={"X-Route": "producer"})])]),
    route("consumer", "consumer", [
        rule(backend("near", namespace="default"), filters=[headers("Response", set={"X-Route": "consumer"})])],
          namespace="elsewhere", parent_namespace="default"),
    {"apiVersion": f"{GATEWAY}/v1beta1", "kind": "ReferenceGrant",
     "metadata": {"name": "consumer", "namespace": "default"},
     "spec": {"from": [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": "elsewhere"}],
              "to": [{"group": "", "kind": "Service", "name": "near"}]}}],
     Ask("/", gets={"x-route": "producer"}), Ask("/", pod="other", gets={"x-route": "consumer"}))

Case("grants", [
    routed.service("granted", "10.96.10.1", [("http", 8081, 8081, None)], "far", namespace="shared"),
    routed.service("secret", "10.96.10.2", [("http", 8081, 8081, None)], "far", namespace="shared"),
    {"apiVersion": f"{GATEWAY}/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "g", "namespace": "shared"},
     "spec": {"from": [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": "default"}],
              "to": [{"group": "", "kind": "Service", "name": "granted"}]}},
    route("grants", "grants", [rule(backend("granted", namespace="shared"), path="/granted"),
                               rule(backend("secret", namespace="shared"), path="/secret"), rule(FAR)])],
     Ask("/granted", status=503), Ask("/secret", status=500), Ask("/", "far"))

case("invalid", [rule(backend("no-such"), path="/none"), rule(backend("near") | {"port": 99}, path="/port"),
                 rule(backend("near") | {"kind": "Bucket", "group": "x.io"}, path="/kind"),
                 rule(backend("near", weight=0), path="/zero"), rule(path="/nothing"), rule(NEAR)],
     Ask("/none", status=500), Ask("/port", status=500), Ask("/kind", status=500), Ask("/zero", status=500),
     Ask("/nothing", status=500), Ask("/", "near"))

Case("empty", [routed.service("nobody", "10.96.10.3", [("http", 8081, 8081, None)], "no-such-app"),
               route("empty", "empty", [rule(backend("nobody"), path="/empty"), rule(NEAR)])],
     Ask("/empty", status=503), Ask("/", "near"))

case("timeouts", [
    rule(NEAR, path="/request", timeouts={"request": "500ms"}),
    rule(FAR, path="/backend", timeouts={"request": "30s", "backendRequest": "500ms"}),
    rule(NEAR, path="/off", timeouts={"request": "0s"}), rule(NEAR)],
     Ask("/request", "near"), Ask("/backend", "far"), Ask("/off", "near"))

WEIGHTS = {"near": 70, "far": 30, "far2": 0}
case("weights", [rule(*(backend(name, weight=w) for name, w in WEIGHTS.items()))])
case("bad-share", [rule(backend("near", weight=50), backend("no-such", weight=50))])
case("mirror", [rule(NEAR, path="/one", filters=[mirror("far")]),
                rule(NEAR, path="/two", filters=[mirror("far"), mirror("far2")]),
                rule(NEAR, path="/some", filters=[mirror("far", percent=20)]),
                rule(NEAR, path="/half", filters=[mirror("far", fraction={"numerator": 5, "denominator": 10})]),
                rule(NEAR, path="/lost", filters=[mirror("no-such")])])

MANIFESTS = {"pods.json": routed.listed(*routed.of_pods())} | {
    f"{c.name}.json": routed.listed(*c.objects) for c in Case.made.values()}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    routed.until_answered(lab, Case.made["simple"].vip)
    routed.until_answered(lab, Case.made["invalid"].vip)


def asked(lab, c, ask):
    fields = list(ask.headers)
    with client(lab, ask.pod, (c.vip, ask.port)) as connection:
        return connection.ask(ask.method, ask.path, fields, host=ask.host)


def joined(fields, name):
    values = [v for n, v in fields if n.lower() == name]
    return ",".join(v.replace(", ", ",") for v in values) if values else None


ALL = [pytest.param(c, ask, id=f"{c.name}-{n}") for c in Case.made.values() for n, ask in enumerate(c.asks)]


@pytest.mark.parametrize("case, ask", ALL)
def test_table(lab, ready, case, ask):
    m = asked(lab, case, ask)
    assert ask.status in (m.status, None), (m.status, m.body)
    assert ask.who in (m.get("x-who"), None), m
    if ask.location is not None:
        where, want = urllib.parse.urlsplit(m.get("location")), urllib.parse.urlsplit(ask.location)
        assert where == want, m.get("location")
    if ask.seen_path is not None:
        assert m.seen["path"] == ask.seen_path
    if ask.seen_host is not None:
        assert m.seen["authority"] == ask.seen_host
    for name, value in ask.sees.items():
        assert joined(m.seen["fields"], name) == value, m.seen["fields"]
    for name, value in ask.gets.items():
        assert joined(m.fields, name) == value, m.fields


# ------------------------------------------------------------------ shares


def shares(lab, vip, path, count=500, parallel=10):
    """Who answered how often: {pod or status: share}"""
    found = collections.Counter()

    def some():
        mine = collections.Counter()
        with client(lab, "client", (vip, 80)) as c:
            for _ in range(count // parallel):
                m = c.ask("GET", path)
                mine[m.get("x-who") if m.status == 200 else m.status] += 1
        found.update(mine)

    threads = [threading.Thread(target=some) for _ in range(parallel)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(found.values()) == count, found
    return {who: n / count for who, n in found.items()}


def within(measure, want, tries=10, by=0.05):
    """As the conformance suite has it: some try of ten is within 5 %; who has no share never gets any."""
    for _ in range(tries):
        got = measure()
        assert not [who for who in got if not want.get(who)], got
        if all(abs(got.get(who, 0) - share) <= by for who, share in want.items()):
            return
    pytest.fail(f"{got} is not {want}")


def test_weights(lab, ready):
    within(lambda: shares(lab, Case.made["weights"].vip, "/"), {w: n / 100 for w, n in WEIGHTS.items()})


def test_the_share_of_an_invalid_backend_fails(lab, ready):
    within(lambda: shares(lab, Case.made["bad-share"].vip, "/"), {"near": 0.5, 500: 0.5})


# ------------------------------------------------------------------ mirrors


def mirrored(lab, origins, path, count):  # noqa: F811
    """How often each backend heard of `count` requests; mirrors come when they come."""
    for n in range(count):
        with client(lab, "client", (Case.made["mirror"].vip, 80)) as c:
            m = c.ask("POST", f"{path}/{n}", body=b"x" * 100)
            assert m.status == 200 and m.seen["who"] == "near"

    def heard():
        return {pod: sum(m.path.startswith(path + "/") for m in origins[pod, "h1"].requests) for pod in ("far", "far2")}

    last, since = heard(), time.monotonic()
    while time.monotonic() - since < 0.5:
        if (now := heard()) != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)  # between two looks
    return last


@pytest.mark.parametrize("path, want", [("/one", (1, 0)), ("/two", (1, 1)), ("/some", (0.2, 0)), ("/half", (0.5, 0)),
                                        ("/lost", (0, 0))])
def test_mirrors(lab, ready, origins, path, want):  # noqa: F811
    count = 20 if set(want) <= {0, 1} else 400
    heard = mirrored(lab, origins, path, count)
    for pod, share in zip(("far", "far2"), want):
        if share in (0, 1):
            assert heard[pod] == share * count, heard
        else:
            assert abs(heard[pod] / count - share) <= 0.1, heard


def test_a_mirror_that_hangs_holds_nobody(lab, ready, origins):  # noqa: F811
    held = http_peers.Held()
    origins["far", "h1"].on["/one/hangs"] = held
    with client(lab, "client", (Case.made["mirror"].vip, 80)) as c:
        for _ in range(5):
            assert c.ask("GET", "/one/hangs").status == 200
    held.next().released.set()


# ------------------------------------------------------------------ timeouts


@pytest.mark.parametrize("path, pod", [("/request/slow", "near"), ("/backend/slow", "far")])
def test_a_request_that_takes_too_long_is_504(lab, ready, origins, path, pod):  # noqa: F811
    held = http_peers.Held()
    origins[pod, "h1"].on[path] = held
    with client(lab, "client", (Case.made["timeouts"].vip, 80)) as c:
        began = time.monotonic()
        m = c.ask("GET", path)
        took = time.monotonic() - began
    assert m.status == 504 and 0.4 < took < 10, (m.status, took)
    x = held.next()
    with pytest.raises(http_peers.Cut):  # and the backend is told that nobody waits any more
        x.left = "end"
        x.over = False
        x.c.sock.settimeout(http_peers.SECONDS)
        if not x.read():
            raise http_peers.Cut("closed")
    x.released.set()


def test_without_timeout_an_answer_may_take_its_time(lab, ready, origins):  # noqa: F811
    def late(x):
        time.sleep(1)  # what a slow origin does
        x.respond(200, b"late")

    origins["near", "h1"].on["/off/slow"] = late
    with client(lab, "client", (Case.made["timeouts"].vip, 80)) as c:
        assert c.ask("GET", "/off/slow").body == b"late"


# ------------------------------------------------------------------ routes come and go


def test_a_route_comes_changes_and_goes(lab, ready):
    name, vip = "comes", "10.96.10.9"
    front = routed.service(name, vip, [("http", 80, 8081, None)], "near")

    def answers(who):
        def so():
            with client(lab, "client", (vip, 80)) as c:
                return c.ask("GET", "/").get("x-who") == who
        labrun.wait_for(so, 20, f"an answer of {who}", 0.05)

    try:
        lab.manifest("comes.json", routed.listed(front))
        labrun.wait_for(lambda: vip in str(lab.weftctl("services", node="n1")), 20, "the Service")
        answers("near")
        for who in ("far", "near2", "far2"):
            lab.manifest("comes.json", routed.listed(front, route(name, name, [rule(backend(who))])))
            answers(who)
        with client(lab, "client", (vip, 80)) as kept:
            assert kept.ask("GET", "/").get("x-who") == "far2"
            lab.manifest("comes.json", routed.listed(front))
            answers("near")
            assert kept.ask("GET", "/").get("x-who") == "near"
    finally:
        (lab.manifests / "comes.json").unlink(missing_ok=True)


