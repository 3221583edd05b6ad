{{/* What things are called, and the labels that hold them together. */}}

{{- define "spillway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 45 characters leave a StatefulSet's `-valkey` the 52 that its revisions' label allows, and `-dashboard-routing` 63. */}}
{{- define "spillway.fullname" -}}
{{- $name := include "spillway.name" . -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $release .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "spillway.serviceAccountName" -}}
{{- default (ternary (include "spillway.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Of a component: `include "spillway.selector" (list . "proxy")`. */}}
{{- define "spillway.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "spillway.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "spillway.labels" -}}
{{- $root := first . -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "spillway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that changes with the chart or with another component, or they would be restarted for it. */}}
{{- define "spillway.podLabels" -}}
{{- include "spillway.selector" . }}
{{- with (first .).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* `include "spillway.image" (list .Values.image .Chart.AppVersion)`. */}}
{{- define "spillway.image" -}}
{{- $image := first . -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (last .) $image.tag }}
{{- end -}}
{{- end -}}
