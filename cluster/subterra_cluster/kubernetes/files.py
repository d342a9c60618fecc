"""The configuration files of the node's components, and the objects that a new cluster needs. Pure: text in, text out."""

from __future__ import annotations

import json
from pathlib import Path

from subterra_cluster.config import (
    DOMAIN,
    NODE_IP,
    NODE_NAME,
    PAUSE_IMAGE,
    POD_CIDR,
    PROVISIONER,
    STORAGE_CLASS,
    Paths,
    Ports,
)
from subterra_cluster.host.shell import write_if_changed
from subterra_cluster.kubernetes.api import Object


def containerd(paths: Paths, cni_plugins: Path) -> str:
    """The configuration of our own containerd, which writes only to the state folder."""
    root = paths.state / "containerd"
    return f"""\
version = 2
root = "{root}/root"
state = "{paths.state}/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{paths.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{paths.state}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{paths.registries}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def cni(paths: Paths) -> str:
    """The pod network: one routed link per pod, so that Services need neither bridge filters nor hairpins."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(paths.state / "cni-addresses"),
    }
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": "subterra", "plugins": [plugin]}, indent=1)


def kubelet(paths: Paths, ports: Ports) -> str:
    """The kubelet's configuration: no anonymous access, no image clean-up (nothing could be pulled again)."""
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "port": ports.kubelet,
        "healthzPort": ports.kubelet_health,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{paths.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{paths.pki}/kubelet-serving.crt",
        "tlsPrivateKeyFile": f"{paths.pki}/kubelet-serving.key",
        "clusterDNS": [NODE_IP],
        "clusterDomain": DOMAIN,
        "resolvConf": "/dev/null",
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "podLogsDir": str(paths.state / "pod-logs"),
        "makeIPTablesUtilChains": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        "nodeStatusUpdateFrequency": "10s",
        "volumePluginDir": str(paths.state / "kubelet-plugins"),
    }
    return json.dumps(content, indent=1)


def kube_proxy(paths: Paths, ports: Ports) -> str:
    """kube-proxy's configuration: Services by nftables."""
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE_NAME,
        "healthzBindAddress": f"127.0.0.1:{ports.proxy_health}",
        "metricsBindAddress": f"127.0.0.1:{ports.proxy_metrics}",
        "clientConnection": {"kubeconfig": f"{paths.pki}/proxy.kubeconfig"},
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
    return json.dumps(content, indent=1)


def corefile(paths: Paths, ports: Ports) -> str:
    """The DNS server's configuration: only names of the cluster."""
    return f"""\
{DOMAIN}:{ports.dns} in-addr.arpa:{ports.dns} {{
  bind {NODE_IP}
  errors
  health 127.0.0.1:{ports.dns_health}
  ready 127.0.0.1:{ports.dns_ready}
  kubernetes {DOMAIN} in-addr.arpa {{
    kubeconfig {paths.pki}/coredns.kubeconfig
    pods disabled
    ttl 5
  }}
  cache 5
}}
"""


def write_all(paths: Paths, ports: Ports, cni_plugins: Path) -> None:
    """Write all configuration files into the state folder."""
    texts = {
        "containerd.toml": containerd(paths, cni_plugins),
        "cni/10-subterra.conflist": cni(paths),
        "kubelet.json": kubelet(paths, ports),
        "kube-proxy.json": kube_proxy(paths, ports),
        "Corefile": corefile(paths, ports),
    }
    for name, text in texts.items():
        path = paths.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(path, text)


def _role(user: str, rules: list[Object]) -> list[Object]:
    """A ClusterRole and its binding to one user, both named like the user."""
    name = {"name": user}
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    return [
        {"kind": "ClusterRole", "metadata": name, "rules": rules},
        {"kind": "ClusterRoleBinding", "metadata": name, "roleRef": reference, "subjects": [subject]},
    ]


def objects() -> list[Object]:
    """The objects of a new cluster: rights for DNS and the provisioner, and the default storage class."""
    look = ["get", "list", "watch"]
    dns = [
        {"apiGroups": [""], "resources": ["services", "namespaces", "endpoints", "pods"], "verbs": look},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": look},
    ]
    volumes = [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": look},
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": [*look, "create", "delete"]},
    ]
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage = {
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": default},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    return [*_role("system:coredns", dns), *_role("system:localpv", volumes), storage]
