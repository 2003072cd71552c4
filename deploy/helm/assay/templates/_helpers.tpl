{{/* Labels that name a part; selectors are made of them and never change. {"part": "server"} */}}
{{- define "assay.selector" -}}
app.kubernetes.io/name: assay
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "assay.labels" -}}
{{ include "assay.selector" . }}
app.kubernetes.io/part-of: assay
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* {"root": $, "name": "assay"} */}}
{{- define "assay.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "assay.pull" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "assay.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Pod Security's level `restricted` asks of a pod, and more. */}}
{{- define "assay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "assay.noRights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Ours to answer the kubelet, at the port of this name; a start may take a database's migration. */}}
{{- define "assay.liveProbes" -}}
startupProbe:
  httpGet: { path: /live, port: {{ . }} }
  periodSeconds: 2
  failureThreshold: 90
livenessProbe:
  httpGet: { path: /live, port: {{ . }} }
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{- define "assay.probes" -}}
{{ include "assay.liveProbes" . }}
readinessProbe:
  httpGet: { path: /ready, port: {{ . }} }
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}

{{/* In every configuration. Pods have addresses of their own: nobody else's ports are taken. */}}
{{- define "assay.diagnostics" -}}
telemetry:
  Prometheus: { host: 0.0.0.0, port: 9988 }
health_checks: { listener_enabled: true, bind_address: 0.0.0.0, bind_port: 8080 }
{{- end }}

{{- define "assay.serverAddress" -}}
{{- .Values.agent.serverAddress | default (printf "assay-server.%s.svc:8081" .Values.namespaces.server) -}}
{{- end }}

{{- define "assay.mesh" -}}{{ if eq .Values.agent.mode "mesh" }}mesh{{ end }}{{- end }}

{{/* Pods belong to the mesh as labels say, and the runtime's plugin tells of them. */}}
{{- define "assay.podMesh" -}}{{ if and (eq .Values.agent.mode "mesh") .Values.mesh.kubernetes.enabled }}pods{{ end }}{{- end }}

{{- define "assay.clusterDns" -}}
to:
- namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: kube-system } }
ports:
- { protocol: UDP, port: 53 }
- { protocol: TCP, port: 53 }
{{- end }}
