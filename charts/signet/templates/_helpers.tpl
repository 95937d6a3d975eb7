{{/* Labels of everything: (dict "context" $ "component" "server"). */}}
{{- define "signet.labels" -}}
app.kubernetes.io/name: signet
app.kubernetes.io/part-of: signet
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ .context.Chart.Name }}-{{ .context.Chart.Version }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* What the pods of a component are found by; it never changes: (dict "component" "server"). */}}
{{- define "signet.selector" -}}
app.kubernetes.io/name: signet
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of pods. What no mesh may take hold of: Signet is below them all, and speaks mutual TLS itself. */}}
{{- define "signet.podLabels" -}}
app.kubernetes.io/name: signet
app.kubernetes.io/part-of: signet
app.kubernetes.io/component: {{ .component }}
sidecar.istio.io/inject: 'false'
istio.io/dataplane-mode: none
kuma.io/sidecar-injection: disabled
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "signet.podAnnotations" -}}
linkerd.io/inject: disabled
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "signet.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The security of a pod that needs nothing. */}}
{{- define "signet.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "signet.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "signet.probes" -}}
# A machine that is short of CPU gets more work, not less, by a start that begins anew: there is time for one.
startupProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 90
# Fails only when a restart helps: a process that stands still, not one that has to wait for its turn.
livenessProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{- define "signet.webhook" -}}
clientConfig:
  # The server writes caBundle itself: nobody else knows its certificate.
  service: { namespace: {{ .context.Release.Namespace }}, name: signet-server, port: 9443, path: {{ .path }} }
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
rules:
  - { apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced }
{{- end }}

{{- define "signet.outsideSignet" -}}
# Never those that Signet itself, or the cluster, needs in order to start.
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, {{ .Release.Namespace }}, {{ .Values.agent.namespace }}]
{{- end }}

{{/*
The name of what the cluster has for this release alone: (dict "context" $ "name" "signet-server"). Two releases never share one,
or the second would take the rights of the first. The usual release has plain names. Namespaces have no dots, so that no two
pairs read the same; with at most 63 letters of a namespace and 53 of a release it stays far below the 253 that names may have.
*/}}
{{- define "signet.clusterName" -}}
{{- with .context.Release -}}
{{- $.name -}}
{{- if or (ne .Name "signet") (ne .Namespace "signet-system") -}}
.{{ .Namespace }}.{{ .Name }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Refuses to take from another release what a cluster has once: (dict "context" $ "apiVersion" … "kind" … "name" … "without" "csi.enabled=false").
Helm itself does not look when both releases have had it before. Where there is no cluster to ask, nothing is refused.
*/}}
{{- define "signet.once" -}}
{{- $marks := dig "metadata" "annotations" (dict) (lookup .apiVersion .kind "" .name) -}}
{{- $owner := dig "meta.helm.sh/release-name" "" $marks -}}
{{- $namespace := dig "meta.helm.sh/release-namespace" "" $marks -}}
{{- if and $owner $namespace (or (ne $owner .context.Release.Name) (ne $namespace .context.Release.Namespace)) -}}
{{- fail (printf "%s %s belongs to the release %s in the namespace %s, and a cluster has only one: leave it there with --set %s, or uninstall that release first (helm uninstall %s -n %s)" .kind .name $owner $namespace .without $owner $namespace) -}}
{{- end -}}
{{- end }}
