# SPDX-License-Identifier: Apache-2.0
"""
envoy: stock Envoys that speak HBONE, for `make bench` and tests/interop. What goes over the wire: TLS 1.3, ALPN h2,
both certificates checked, CONNECT with the address of the application as :authority, DATA both ways, END_STREAM is
the half close. The `client` listens where an application dials and asks for a fixed destination, so that neither
netfilter nor the kernel's conntrack stands between; the `server` dials whatever :authority says.

Tuned as Envoy's documentation says (Listener.connection_balance_config, circuit breakers, no access log, no
timeouts of streams): exact balance of connections over its workers, thresholds out of the way.
"""

import json
import pathlib

HBONE = 15008
TYPES = "type.googleapis.com/envoy.extensions."


def typed(name, **fields):
    return {"@type": TYPES + name, **fields}


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def tls(certs, name, match):
    """
    The fields that both sides have. `certs`: folder with ca.pem, NAME.pem, NAME.key (name None: shows no certificate);
    `match`: SANs of the peer.
    """
    version = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    own = [{"certificate_chain": {"filename": str(certs / f"{name}.pem")},
            "private_key": {"filename": str(certs / f"{name}.key")}}] if name else []
    return {
        "alpn_protocols": ["h2"], "tls_params": version, "tls_certificates": own,
        "validation_context": {"trusted_ca": {"filename": str(certs / "ca.pem")},
                               "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": match}]},
    }


def limits():
    return {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}


def document(listeners, clusters):
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def listener(name, ip, port, filters, **more):
    return {"name": name, "address": address(ip, port), "connection_balance_config": {"exact_balance": {}},
            "filter_chains": [{"filters": filters, **more}]}


def client(ways, hbone, certs, name, server_id):
    """`ways`: {port on 127.0.0.1: IP:PORT that is asked for}; `hbone`: address of the node or pod that is asked."""
    listeners = []
    for port, authority in ways.items():
        proxy = typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="capture", cluster="hbone",
                      idle_timeout="0s", tunneling_config={"hostname": authority})
        listeners.append(listener(f"capture-{port}", "127.0.0.1", port, [{"name": "tcp_proxy", "typed_config": proxy}]))
    options = typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})
    context = typed("transport_sockets.tls.v3.UpstreamTlsContext",
                    common_tls_context=tls(certs, name, {"exact": server_id}))
    endpoint = {"endpoint": {"address": address(hbone, HBONE)}}
    cluster = {"name": "hbone", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": limits(),
               "load_assignment": {"cluster_name": "hbone", "endpoints": [{"lb_endpoints": [endpoint]}]},
               "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
               "transport_socket": {"name": "tls", "typed_config": context}}
    return document(listeners, [cluster])


def server(certs, name, trust_domain="cluster.local", ip="0.0.0.0"):
    """Lets in every identity of the trust domain."""
    context = typed("transport_sockets.tls.v3.DownstreamTlsContext", require_client_certificate=True,
                    common_tls_context=tls(certs, name, {"prefix": f"spiffe://{trust_domain}/"}))
    route = {"match": {"connect_matcher": {}},
             "route": {"cluster": "dial", "timeout": "0s",
                       "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
    manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="hbone",
                    codec_type="HTTP2", stream_idle_timeout="0s", http2_protocol_options={"allow_connect": True},
                    upgrade_configs=[{"upgrade_type": "CONNECT"}],
                    route_config={"virtual_hosts": [{"name": "connect", "domains": ["*"], "routes": [route]}]},
                    http_filters=[{"name": "router", "typed_config": typed("filters.http.router.v3.Router")}])
    dial = {"name": "dial", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"},
            "circuit_breakers": limits()}
    return document([listener("hbone", ip, HBONE, [{"name": "hcm", "typed_config": manager}],
                              transport_socket={"name": "tls", "typed_config": context})], [dial])


def front(certs, name):
    """TLS of a listener that shows a certificate and asks for none. Of TLS 1.3 its clients choose the cipher."""
    version = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    common = {"alpn_protocols": ["h2", "http/1.1"], "tls_params": version,
              "tls_certificates": [{"certificate_chain": {"filename": str(certs / f"{name}.pem")},
                                    "private_key": {"filename": str(certs / f"{name}.key")}}]}
    context = typed("transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common)
    return {"transport_socket": {"name": "tls", "typed_config": context}}


def proxy(ways, own="127.0.0.1", more=None, **manager_more):
    """
    A reverse proxy: {port on the address `own`: (name, IP, port, does the origin speak HTTP/2)}; clients speak either.
    `more`: what its listeners have beside, as front() gives; the rest: what their connection managers have.
    """
    listeners, clusters = [], []
    for port, (name, ip, to, h2) in ways.items():
        route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
        manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=name,
                        codec_type="AUTO", stream_idle_timeout="0s",
                        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                        http_filters=[{"name": "router", "typed_config": typed("filters.http.router.v3.Router")}],
                        **manager_more)
        listeners.append(listener(name, own, port, [{"name": "hcm", "typed_config": manager}], **more or {}))
        version = {"http2_protocol_options": {}} if h2 else {"http_protocol_options": {}}
        options = typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config=version)
        clusters.append({
            "name": name, "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": limits(),
            "load_assignment": {"cluster_name": name,
                                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ip, to)}}]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}})
    return document(listeners, clusters)


def command(build, folder, name, config, threads=1):
    """Writes the configuration; gives the command that runs it. Its admin interface is the socket NAME.admin."""
    path = pathlib.Path(folder, f"{name}.json")
    admin = {"address": {"pipe": {"path": str(path.with_suffix(".admin"))}}}
    path.write_text(json.dumps({"admin": admin, **config}, indent=1))
    return [binary(build), "-c", path, "--concurrency", threads, "--disable-hot-restart", "-l", "warn"]


def binary(build):
    """The program itself, not the Python that pip puts before it; None: not installed."""
    return next(iter(sorted(pathlib.Path(build, "peers").glob("lib/python*/site-packages/envoy/_bin/envoy"))), None)
