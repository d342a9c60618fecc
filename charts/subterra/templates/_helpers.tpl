{{- define "subterra.labels" -}}
app.kubernetes.io/name: subterra
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Prometheus picks monitors and rules by label, such as `release`. */}}
{{- define "subterra.monitoringLabels" -}}
{{ include "subterra.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "subterra.selector" -}}
app.kubernetes.io/name: subterra
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The heartbeat must be in a watched namespace. */}}
{{- define "subterra.heartbeatNamespace" -}}
{{- if .Values.watchNamespaces }}{{ first .Values.watchNamespaces }}{{ else }}{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "subterra.lease" -}}
{{ .Release.Name }}-operator
{{- end }}

{{- define "subterra.rules" -}}
- apiGroups: [subterra.dev]
  resources: [procedures]
  verbs: [get, list, watch]
- apiGroups: [subterra.dev]
  resources: [compiledagents]
  verbs: [get, list, watch]
- apiGroups: [subterra.dev]
  resources: [compileruns]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [subterra.dev]
  resources: [procedures/status, compileruns/status, compiledagents/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion need this where the cluster enforces it.
- apiGroups: [subterra.dev]
  resources: [compileruns/finalizers, compiledagents/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch]
# Trainings on several nodes. Also granted where the cluster has no JobSet.
- apiGroups: [jobset.x-k8s.io]
  resources: [jobsets]
  verbs: [get, list, watch, create, patch, delete]
# Generations over several pods. Also granted where the cluster has no KubeRay.
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Canaries. Also granted where the cluster has no Gateway API.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
# Pools for endpoint pickers. Also granted where the cluster has no InferencePools.
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Why a pod could not be made, or a volume not mounted, is said in Events only. They are listed on demand.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# Claims hold paid artifacts: created, never deleted.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch]
# Kueue: what it says about a Job in a queue, and `spec.active` of its Workload, by which a suspended run leaves the queue.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, patch]
# What `kubectl describe` shows of a resource's life.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
