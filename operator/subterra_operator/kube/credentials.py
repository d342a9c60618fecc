"""Credentials of the operator, for its own client and for kopf: the pod's service account, else the kubeconfig."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

KOPF_LOGIN_SECONDS = 600.0
"""How long kopf uses credentials before it asks for them again: service account tokens rotate."""


class CredentialsError(Exception):
    """There are no usable credentials."""


async def load_configuration() -> Any:
    """A client configuration with address, certificates and token. Raises CredentialsError."""
    configuration = Configuration()
    configuration.client_session_kwargs = {"trust_env": False}  # the API server is never behind the proxy of HTTP_PROXY
    try:
        load_incluster_config(configuration)
    except ConfigException:
        path = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            await load_kube_config(path, client_configuration=configuration, persist_config=False)
        except (ConfigException, OSError, ValueError, TypeError) as error:
            text = f"no usable credentials: run in a pod with a ServiceAccount, or set KUBECONFIG (kubeconfig {path}: {error})"
            raise CredentialsError(text) from error
    return configuration


async def connection_info() -> kopf.ConnectionInfo:
    """The same credentials as kopf wants them. Raises CredentialsError.

    The expiration makes kopf ask again, and makes each answer a new one: kopf refuses credentials equal to earlier rejected ones.
    """
    found = await load_configuration()
    header = await found.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (header or "").partition(" ")
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        scheme=scheme or None,
        token=token.strip() or None,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        proxy_url=found.proxy,
        expiration=datetime.now(UTC) + timedelta(seconds=KOPF_LOGIN_SECONDS),
    )
