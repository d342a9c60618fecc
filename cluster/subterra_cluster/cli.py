"""The command line: `PYTHONPATH=cluster python3 -m subterra_cluster COMMAND`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from subterra_cluster import binaries
from subterra_cluster.cluster_lifecycle import Cluster
from subterra_cluster.config import default_paths
from subterra_cluster.host import prerequisites
from subterra_cluster.host.shell import ClusterError, say
from subterra_cluster.images.builder import Builder
from subterra_cluster.images.registry import Registry


def parser() -> argparse.ArgumentParser:
    """The argument parser; its help is the reference."""
    result = argparse.ArgumentParser(prog="subterra_cluster", description="A one-node Kubernetes on this machine.")
    result.add_argument("--folder", type=Path, help="the cluster's folder (default: .cluster in this checkout)")
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start or repair the cluster; builds the binaries the first time")
    up.add_argument("--registry", metavar="HOST[:PORT]", help="pull images from this registry; then built images are not shared")
    up.add_argument("--registry-ca", type=Path, metavar="FILE", help="certificate of the authority that it is trusted by")
    commands.add_parser("down", help="stop the cluster and remove everything except the cache")
    commands.add_parser("purge", help="down, and also remove the cache")
    commands.add_parser("status", help="print a line per component; exit code 1 unless all are healthy")
    images = commands.add_parser("images", help="build images/*/Dockerfile and share them with the running cluster")
    images.add_argument("names", nargs="*", metavar="NAME", help="folders in images/ (default: all)")
    images.add_argument("--registry", help="push to REGISTRY/NAME:dev instead of sharing")
    images.add_argument("--file", type=Path, help="build this Dockerfile as the one NAME given")
    commands.add_parser("share", help="share the images built earlier with the running cluster")
    commands.add_parser("build", help="build the binaries only; prints their folder")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    commands.add_parser("env", help='print shell settings: eval "$(… env)"; then kubectl and helm work')
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; expected errors are shown without a traceback."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except ClusterError as failure:
        say(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _run(options: argparse.Namespace) -> int:
    """Dispatch to the command."""
    paths = default_paths(options.folder)
    cluster = Cluster(paths)
    match options.command:
        case "up":
            if options.registry_ca and not options.registry:
                raise ClusterError("--registry-ca needs --registry, the registry whose certificate it vouches for")
            cluster.up(Registry(options.registry, options.registry_ca) if options.registry else None)
        case "down":
            cluster.down()
        case "purge":
            cluster.purge()
        case "status":
            return 0 if cluster.status() else 1
        case "images":
            _images(cluster, options)
        case "share":
            cluster.share()
        case "build":
            print(binaries.ensure(paths.cache))
        case "kubeconfig":
            print(paths.kubeconfig)
        case "env":
            print(f'export KUBECONFIG="{paths.kubeconfig}" PATH="{binaries.binaries_path(paths.cache)}:$PATH"')
    return 0


def _images(cluster: Cluster, options: argparse.Namespace) -> None:
    """Build, then push or share."""
    prerequisites.ensure(cluster.paths, cluster.ports, node=False, images=True)
    builder = Builder(cluster.paths)
    if options.file:
        if len(options.names) != 1:
            raise ClusterError("--file needs exactly one NAME for the image")
        builder.build_file(options.names[0], options.file)
    else:
        builder.build(options.names)
    if options.registry:
        builder.push(options.names, options.registry)
    elif cluster.running():
        cluster.share()
    else:
        say("the cluster is down: `up` will share the images")
