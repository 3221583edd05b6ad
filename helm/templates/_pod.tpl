{{/* How a pod says what the values mean: its environment, its probes, and where it may run. */}}

{{/* Streams have what the grace period leaves when those who watch endpoints have had their time. */}}
{{- define "spillway.drainSeconds" -}}
{{- $rollout := .Values.rollout -}}
{{- $taken := add (int $rollout.preStopSleepSeconds) (int $rollout.drainDelaySeconds) (int $rollout.flushSeconds) -}}
{{- $left := sub (int $rollout.terminationGracePeriodSeconds) $taken -}}
{{- if lt (int $left) 1 -}}
{{- fail "rollout.terminationGracePeriodSeconds: nothing is left for streams beside `preStopSleepSeconds`, `drainDelaySeconds` and `flushSeconds`" -}}
{{- end -}}
{{- $left -}}
{{- end -}}

{{- define "spillway.env" -}}
{{- $store := .Values.redis.external -}}
- name: SPILLWAY_HOST
  value: {{ .Values.listenAddress | quote }}
- name: SPILLWAY_PORT
  value: "8080"
- name: SPILLWAY_ADMIN_PORT
  value: "9090"
- name: SPILLWAY_WORKERS
  value: "1"
- name: SPILLWAY_POLICY
  value: /etc/spillway
- name: SPILLWAY_DATA_DIR
  value: /var/lib/spillway
- name: SPILLWAY_DRAIN
  value: {{ include "spillway.drainSeconds" . }}s
- name: SPILLWAY_DRAIN_DELAY
  value: {{ .Values.rollout.drainDelaySeconds }}s
- name: SPILLWAY_REDIS_URL
  {{- if .Values.valkey.enabled }}
  value: redis://{{ include "spillway.fullname" . }}-valkey:6379/0
  {{- else if $store.existingSecret }}
  valueFrom:
    secretKeyRef: {name: {{ $store.existingSecret }}, key: {{ $store.urlKey }}}
  {{- else }}
  value: {{ $store.url | quote }}
  {{- end }}
{{- $password := ternary .Values.valkey.auth.existingSecret $store.passwordSecret .Values.valkey.enabled }}
{{- with $password }}
- name: SPILLWAY_REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ ternary $.Values.valkey.auth.key $store.passwordKey $.Values.valkey.enabled }}}
{{- end }}
{{- with .Values.adminToken.existingSecret }}
- name: SPILLWAY_ADMIN_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.adminToken.key }}}
{{- end }}
{{- with .Values.otel.endpoint }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "spillway.otelAttributes" $ | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a span comes from, in the words of OpenTelemetry's conventions for Kubernetes. */}}
{{- define "spillway.otelAttributes" -}}
{{- $deployment := include "spillway.fullname" . -}}
{{- $known := dict "k8s.namespace.name" .Release.Namespace "k8s.deployment.name" $deployment "k8s.pod.name" "$(POD_NAME)" "k8s.node.name" "$(NODE_NAME)" -}}
{{- $written := list -}}
{{- range $name, $value := merge (dict) .Values.otel.resourceAttributes $known -}}
{{- $written = append $written (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $written -}}
{{- end -}}

{{- define "spillway.envFrom" -}}
{{- range .Values.providerKeys.existingSecrets }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- with .Values.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Constraints of ours look at our pods, unless they say whose they look at. */}}
{{- define "spillway.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "spillway.selector" (list . "proxy") | fromYaml) -}}
{{- range .Values.topologySpreadConstraints }}
- {{ merge (dict) . (dict "labelSelector" $selector) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end -}}
