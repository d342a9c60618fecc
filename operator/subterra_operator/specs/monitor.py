"""What `spec.monitoring` adds to a serving pod: a recorder in vLLM, a monitor that reads its records, and the folder between them.

The recorder is one file that needs only Python. An init container copies it from the jobs image, so any image with vLLM will do;
vLLM's container has the file's folder as its working directory, where `python3 -m` finds modules, and no variable of the image is
replaced.
"""

from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.environment import (
    KEEP_DAYS_VARIABLE,
    KEEP_VARIABLE,
    MODEL_PATH_VARIABLE,
    RECORD_PER_HOUR_VARIABLE,
    RECORD_SAMPLE_VARIABLE,
    REPORT_PATH_VARIABLE,
    SERVED_MOUNT,
    SERVED_VARIABLE,
)
from subterra_api.v1alpha1.compiledagent import MonitoringSettings
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, container, env, mounts, resources

RECORDER_MOUNT, RECORDER_MODULE = "/subterra-recorder", "subterra_recorder"
PACKAGE = "subterra_jobs.evaluate.analysis.served"
DEFAULT_RESOURCES = ResourceRequirements(requests={"cpu": "100m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1536Mi"})
"""Labelling by similarity holds an encoder; it is in no hurry."""
VOLUME_LIMIT = "512Mi"
"""Above what recorder (32 MiB) and monitor (64 MiB) ever write, so that no pod is evicted for it."""
_RECORDER_VOLUME, _SERVED_VOLUME = "recorder", "served"
_SERVED: Object = {"name": _SERVED_VOLUME, "mountPath": SERVED_MOUNT}


def monitor_volumes() -> list[Object]:
    """The folders of the recorder's file and of its records."""
    return [
        {"name": _RECORDER_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": _SERVED_VOLUME, "emptyDir": {"sizeLimit": VOLUME_LIMIT}},
    ]


def recorder_file(settings: Settings) -> Object:
    """An init container that provides the recorder's file."""
    parts = {
        "command": ["python", "-m", f"{PACKAGE}.recorder", RECORDER_MOUNT],
        "env": env(HOME),
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [{"name": _RECORDER_VOLUME, "mountPath": RECORDER_MOUNT}],
    }
    return container("recorder", settings.jobs_image, settings, parts)


def monitor(settings: Settings, monitoring: MonitoringSettings, model_path: str, report_path: str | None) -> Object:
    """A native sidecar that labels and counts what was recorded."""
    values = {
        **HOME,
        SERVED_VARIABLE: SERVED_MOUNT,
        MODEL_PATH_VARIABLE: model_path,
        KEEP_VARIABLE: monitoring.keep,
        KEEP_DAYS_VARIABLE: str(monitoring.keep_days),
    }
    parts = {
        "command": ["python", "-m", PACKAGE],
        "env": env(values | ({REPORT_PATH_VARIABLE: report_path} if report_path else {})),
        "resources": resources(monitoring.resources, DEFAULT_RESOURCES),
        "volumeMounts": [*mounts(read_only=True), _SERVED],
        "restartPolicy": "Always",
    }
    return container("monitor", settings.jobs_image, settings, parts)


def recording(vllm: Mapping[str, Any], monitoring: MonitoringSettings) -> Object:
    """vLLM's container with the recorder as its middleware."""
    values = {
        SERVED_VARIABLE: SERVED_MOUNT,
        RECORD_SAMPLE_VARIABLE: monitoring.sample,
        RECORD_PER_HOUR_VARIABLE: str(monitoring.max_requests_per_hour),
    }
    code: Object = {"name": _RECORDER_VOLUME, "mountPath": RECORDER_MOUNT, "readOnly": True}
    return {
        **vllm,
        "command": [*vllm["command"], "--middleware", f"{RECORDER_MODULE}.Recorder"],
        "workingDir": RECORDER_MOUNT,
        "env": sorted([*vllm["env"], *env(values)], key=lambda variable: str(variable["name"])),
        "volumeMounts": [*vllm["volumeMounts"], code, _SERVED],
    }


def publishing(exporter: Mapping[str, Any]) -> Object:
    """The exporter's container with the counts that it publishes."""
    variables = [*exporter["env"], *env({SERVED_VARIABLE: SERVED_MOUNT})]
    return {
        **exporter,
        "env": sorted(variables, key=lambda variable: str(variable["name"])),
        "volumeMounts": [*exporter["volumeMounts"], _SERVED | {"readOnly": True}],
    }
